"""Attributes of runs, as record tables: derived from the event, set by the code, the same once for each change."""

from stepstream.contract.attributes import Attributes, changed
from stepstream.contract.limits import ATTRIBUTES_PER_RUN_MAX
from tests.engine.tables import table


@table()
def test_a_function_derives_attributes_from_the_event() -> None:
    """A run begins with the values of the function's expressions; one that fails or is not a scalar gives none.

    10 | function f on=go attributes=order:event.data.id;n:event.data.n;x:event.data.none;o:event.data | -
    10 | event go {"id":"o-1","n":2}  | began r1 f with {"order":"o-1","n":2}; start r1
    10 | count attribute_errors       | 2
    11 | event go {"id":null,"n":1.5} | began r2 f with {"n":1.5}; start r2
    11 | count attribute_errors       | 4
    """


@table()
def test_a_registration_with_a_broken_expression_starts_runs() -> None:
    """An expression that cannot be parsed, which no worker of ours registers, gives no attribute.

    10 | function f on=go attributes=order:event..data | -
    10 | event go                                      | began r1 f; start r1
    10 | count attribute_errors                        | 1
    """


@table()
def test_invoked_runs_and_reruns_have_attributes() -> None:
    """A run that another one invokes, and a rerun, get the attributes of their event.

    10 | function f on=go attributes=name:event.name | -
    10 | function g attributes=cause:event.name      | -
    10 | event go                                    | began r1 f with {"name":"go"}; start r1
    11 | plan r1 invoke:a:g:500                      | planned a until 511;
       |                                             | began r2 g with {"cause":"stream/function.invoked"}; start r2
    12 | rerun old f q1 reply=R go e1                | began r3 f of old with {"name":"go"}; start r3; reply R r3
    """


@table()
def test_the_code_changes_attributes() -> None:
    """The code adds, replaces and removes attributes; what changes nothing is not recorded, and 1 is not true.

    10 | function f on=go attributes=a:1   | -
    10 | event go                          | began r1 f with {"a":1}; start r1
    11 | set r1 {"b":"x"}                  | attributes {"a":1,"b":"x"}
    12 | set r1 {"b":"x"}                  | -
    13 | set r1 {"a":true}                 | attributes {"a":true,"b":"x"}
    14 | set r1 {"b":null,"c":2.5}         | attributes {"a":true,"c":2.5}
    15 | set r1 {"b":null}                 | -
    16 | raise r1 retry=1000               | attempt 0 failed, next 1016
    17 | set r1 {"c":null}                 | attributes {"a":true}
    """


@table()
def test_only_the_worker_that_has_the_run_sets_attributes() -> None:
    """The report of a worker that lost the run, or for a run that has ended, changes nothing.

    10 | function f on=go           | -
    10 | event go                   | began r1 f; start r1
    11 | claim r1 c1                | moved to epoch 2; load r1 for c1
    12 | set r1 {"a":1}             | -
    12 | count stale_reports        | 1
    13 | set r1 {"a":1} epoch=2     | attributes {"a":1}
    14 | return r1 =1 epoch=2       | completed r1 =1; emit stream/function.finished#r1:finished
    15 | set r1 {"a":2} epoch=2     | -
    15 | count stale_reports        | 2
    """


def test_a_run_has_a_bounded_number_of_attributes() -> None:
    """Attributes beyond the limit are left out; those that exist can still be changed."""
    known: Attributes = {f"a{number}": number for number in range(ATTRIBUTES_PER_RUN_MAX)}
    assert changed(known, {"more": 1, "a0": "x"}) == {**known, "a0": "x"}
    assert changed(known, {"a1": None, "more": 1})["more"] == 1
