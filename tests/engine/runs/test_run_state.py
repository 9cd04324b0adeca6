"""The state that the code of a run sets, as record tables: the last one is kept until the run ends."""

from tests.engine.tables import table


@table()
def test_the_code_replaces_the_state() -> None:
    """Each report has the whole state, and the same one again is not recorded, in any order of its names.

    10 | function f on=go              | -
    10 | event go                      | began r1 f; start r1
    11 | state r1 {"a":1}              | state {"a":1}
    12 | state r1 {"a":1}              | -
    13 | state r1 {"a":1,"b":[null]}   | state {"a":1,"b":[null]}
    14 | state r1 {"b":[null],"a":1}   | -
    15 | state r1 {"a":true}           | state {"a":true}
    16 | raise r1 retry=1000           | attempt 0 failed, next 1016
    17 | state r1 {}                   | state {}
    """


@table()
def test_the_worker_that_claims_a_run_gets_its_state() -> None:
    """A replay compares with it what the code sets; the report of the worker that lost the run changes nothing.

    10 | function f on=go              | -
    10 | event go                      | began r1 f; start r1
    11 | claim r1 c1                   | moved to epoch 2; load r1 for c1
    12 | state r1 {"a":1} epoch=2      | state {"a":1}
    13 | claim r1 c2                   | moved to epoch 3; load r1 for c2 in {"a":1}
    14 | state r1 {"a":2} epoch=2      | -
    14 | count stale_reports           | 1
    15 | pause r1                      | paused by ann until 0; reload r1
    16 | state r1 {"a":3} epoch=3      | state {"a":3}
    16 | rows RunValues                | 1
    """


@table()
def test_the_end_of_a_run_leaves_no_state() -> None:
    """The state of a run that has ended is in its history alone; its successor begins without one.

    10 | function f on=go              | -
    10 | event go                      | began r1 f; start r1
    11 | state r1 {"a":1}              | state {"a":1}
    12 | return r1 =1                  | completed r1 =1; emit stream/function.finished#r1:finished
    12 | rows RunValues                | 0
    13 | state r1 {"a":2}              | -
    13 | count stale_reports           | 1
    """
