"""Steps that wait for several events, as record tables: one result, and no row of the waits that lose."""

from stepstream.contract.limits import Limits
from tests.engine.tables import table


@table()
def test_the_first_event_ends_the_step() -> None:
    """The first event is the result; the other wait leaves no row, and its event changes nothing.

    10 | function f on=go                                      | -
    10 | event go {"id":1}                                     | began r1 f; start r1
    11 | plan r1 any:a:500:yes.paid.data.id;no.refused.data.id | planned a until 511 first of: yes,no
    11 | rows Wait                                             | 2
    12 | event refused {"id":2} x0                             | -
    13 | event refused {"id":1} x1                             | kept a=no:x1; resume r1 a=no:x1
    13 | rows Wait                                             | 0
    13 | rows Timer                                            | 0
    14 | event paid {"id":1} x2                                | -
    15 | plan r1 any:a:500:yes.paid.data.id;no.refused.data.id | -
    15 | return r1 =1                                          | completed r1 =1;
       |                                                       | emit stream/function.finished#r1:finished
    """


@table()
def test_two_events_of_one_moment_give_one_result() -> None:
    """Two matches that were sent before either arrived: the first is kept, the second finds no step.

    10 | function f on=go                                      | -
    10 | event go {"id":1}                                     | began r1 f; start r1
    11 | plan r1 any:a:500:yes.paid.data.id;no.refused.data.id | planned a until 511 first of: yes,no
    12 | event refused {"id":1} x1 & event paid {"id":1} x2    | kept a=no:x1; resume r1 a=no:x1
    12 | rows Wait                                             | 0
    13 | matched r1 a#0 paid x3                                | -
    """


@table()
def test_one_event_may_match_two_waits_of_a_step() -> None:
    """For the first event it ends the step once; for all of them it satisfies both.

    10 | function f on=go                                | -
    10 | event go {"id":1}                               | began r1 f; start r1
    11 | plan r1 any:a:500:x.paid;y.paid.data.id         | planned a until 511 first of: x,y
    12 | plan r1 all:b:500:x.paid.data.id;y.paid.data.id | planned b until 512 all of: x,y
    13 | event paid {"id":1} p                           | kept a=x:p; resume r1 a=x:p; planned b until 512 all of: y;
       |                                                 | kept b=x:p,y:p; resume r1 b=x:p,y:p
    13 | rows Wait                                       | 0
    """


@table()
def test_all_events_end_the_step() -> None:
    """Each event is kept once, the first one of its name; the last one ends the step.

    10 | function f on=go                                      | -
    10 | event go {"id":1}                                     | began r1 f; start r1
    11 | plan r1 all:a:500:pay.paid.data.id;box.packed.data.id | planned a until 511 all of: pay,box
    12 | event packed {"id":1} x1                              | planned a until 511 all of: pay
    13 | event packed {"id":1} x2                              | -
    14 | event paid {"id":1} x3                                | kept a=pay:x3,box:x1; resume r1 a=pay:x3,box:x1
    14 | rows Wait                                             | 0
    14 | rows Timer                                            | 0
    """


@table()
def test_several_waits_time_out_as_one() -> None:
    """At the timeout the step ends without events, also if some came; an event at that time is late.

    10  | function f on=go                                     | -
    10  | event go {"id":1}                                    | began r1 f; start r1
    11  | plan r1 all:a:89:pay.paid.data.id;box.packed.data.id | planned a until 100 all of: pay,box
    11  | plan r1 any:b:89:yes.paid.data.id;never.go.data.none | planned b until 100 first of: yes,never
    12  | event packed {"id":1} x1                             | planned a until 100 all of: pay
    100 | matched r1 a#0 paid x2 & tick                        | kept a~; resume r1 a~; kept b~; resume r1 b~
    100 | rows Wait                                            | 0
    101 | plan r1 any:c:0:yes.paid                             | kept c~; resume r1 c~
    """


@table()
def test_the_end_of_a_run_closes_its_waits() -> None:
    """A step that is dropped, the end of a run and its cancellation leave no wait.

    10 | function f on=go                         | -
    10 | event go {"id":1}                        | began r1 f; start r1
    10 | event go {"id":2}                        | began r2 f; start r2
    11 | plan r1 any:a:500:x.paid;y.packed.data.id | planned a until 511 first of: x,y
    11 | plan r2 all:a:500:x.paid.data.id;y.packed | planned a until 511 all of: x,y
    12 | plan r1 cancel=a                         | dropped a
    12 | rows Wait                                | 2
    13 | plan r1 any:b:500:x.paid;y.packed.data.id | planned b until 513 first of: x,y
    14 | return r1 =1                             | completed r1 =1; emit stream/function.finished#r1:finished
    14 | rows Wait                                | 2
    15 | cancel r2                                | cancelled r2 !run-cancelled; stop r2 cancelled;
       |                                          | emit stream/function.finished#r2:finished;
       |                                          | emit stream/function.cancelled#r2:cancelled
    15 | rows Wait                                | 0
    """


@table()
def test_a_look_back_of_one_wait_ends_the_step() -> None:
    """Each wait looks back by itself; the first event that is found ends the step.

    10 | function f on=go lookback=100                                   | -
    10 | event go {"id":1}                                               | began r1 f; start r1
    11 | event paid {"id":1} x1                                          | -
    12 | plan r1 any:a:500:yes.paid.data.id/50;no.refused.data.id        | planned a until 512 first of: yes,no;
       |                                                                 | kept a=yes:x1; resume r1 a=yes:x1
    12 | rows Wait                                                       | 0
    13 | plan r1 all:b:500:yes.paid.data.id/50;no.refused.data.id        | planned b until 513 all of: yes,no;
       |                                                                 | planned b until 513 all of: no
    14 | event refused {"id":1} x2                                       | kept b=yes:x1,no:x2; resume r1 b=yes:x1,no:x2
    """


@table()
def test_matchers_decide_the_timeout_of_look_backs() -> None:
    """A step with a look-back that expires asks all its matchers, and ends with the last answer or an event.

    10  | function f on=go lookback=100                               | -
    10  | event go {"id":1}                                           | began r1 f; start r1
    11  | plan r1 any:a:89:yes.paid.data.id/50;no.refused             | planned a until 100 first of: yes,no
    11  | plan r1 all:b:89:yes.paid.data.id/50;no.refused             | planned b until 100 all of: yes,no
    12  | event refused {"id":1} x1                                   | kept a=no:x1; resume r1 a=no:x1;
        |                                                             | planned b until 100 all of: yes
    13  | plan r1 any:c:87:yes.paid.data.id/1;no.other                | planned c until 100 first of: yes,no
    100 | tick                                                        | kept b~; resume r1 b~; kept c~; resume r1 c~
    100 | rows Wait                                                   | 0
    100 | rows Timer                                                  | 0
    101 | resolved r1 c#0 ~                                           | -
    """


@table()
def test_a_wait_that_cannot_be_evaluated_fails_the_step() -> None:
    """The step fails as one, and nothing is registered.

    10 | function f on=go                        | -
    10 | event go {"id":1}                       | began r1 f; start r1
    11 | plan r1 any:a:500:x.paid;y.packed.?((   | kept a!invalid-expression; resume r1 a!invalid-expression
    11 | rows Wait                               | 0
    """


@table(Limits(step_output_bytes_max=150))
def test_events_that_are_too_large_together_fail_the_step() -> None:
    """The result of a step has a limit, which the events that came may exceed before all have come.

    10 | function f on=go                               | -
    10 | event go                                       | began r1 f; start r1
    11 | plan r1 all:a:500:x.one;y.two;z.three          | planned a until 511 all of: x,y,z
    12 | event one {"text":"aaaaaaaaaaaaaaaaaaaa"} x1   | planned a until 511 all of: y,z
    13 | event two {"text":"aaaaaaaaaaaaaaaaaaaa"} x2   | kept a!output-too-large; resume r1 a!output-too-large
    13 | rows Wait                                      | 0
    """
