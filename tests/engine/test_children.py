"""Invoked runs that end with the run that invoked them, as record tables."""

from tests.engine.tables import table


@table()
def test_open_children_are_cancelled_when_their_parent_is_cancelled() -> None:
    """Only those that were invoked so, and with them their own children; a child that has ended is forgotten.

    10 | function f on=go              | -
    10 | function g                    | -
    10 | event go                      | began r1 f; start r1
    11 | plan r1 invoke:a:g:500:cancel | planned a until 511; began r2 g; start r2
    11 | plan r1 invoke:b:g:500        | planned b until 511; began r3 g; start r3
    11 | plan r1 invoke:c:g:500:cancel | planned c until 511; began r4 g; start r4
    12 | plan r4 invoke:d:g:500:cancel | planned d until 512; began r5 g; start r5
    12 | rows Child                    | 3
    13 | return r2 =1                  | completed r2 =1; emit stream/function.finished#r2:finished;
       |                               | kept a=1; resume r1 a=1
    13 | rows Child                    | 2
    14 | cancel r1 reply=R             | cancelled r1 !run-cancelled; stop r1 cancelled;
       |                               | emit stream/function.finished#r1:finished;
       |                               | emit stream/function.cancelled#r1:cancelled; reply R cancelled;
       |                               | cancelled r4 !run-cancelled; stop r4 cancelled;
       |                               | emit stream/function.finished#r4:finished;
       |                               | emit stream/function.cancelled#r4:cancelled;
       |                               | cancelled r5 !run-cancelled; stop r5 cancelled;
       |                               | emit stream/function.finished#r5:finished;
       |                               | emit stream/function.cancelled#r5:cancelled
    14 | count runs_cancelled g parent | 2
    15 | rows Child                    | 0
    15 | return r3 =1                  | completed r3 =1; emit stream/function.finished#r3:finished
    15 | rows Timer                    | 0
    """


@table()
def test_a_child_is_cancelled_after_its_step_has_ended_without_it() -> None:
    """The step timed out, or lost a race, and the child is still open when the parent completes, or fails.

    10  | function f on=go              | -
    10  | function g                    | -
    10  | event go                      | began r1 f; start r1
    10  | event go                      | began r2 f; start r2
    11  | plan r1 invoke:a:g:20:cancel  | planned a until 31; began r3 g; start r3
    11  | plan r2 invoke:a:g:500:cancel | planned a until 511; began r4 g; start r4
    12  | plan r2 cancel=a              | dropped a
    31  | tick                          | kept a!invoke-timeout; resume r1 a!invoke-timeout
    32  | return r1 =1                  | completed r1 =1; emit stream/function.finished#r1:finished;
        |                               | cancelled r3 !run-cancelled; stop r3 cancelled;
        |                               | emit stream/function.finished#r3:finished;
        |                               | emit stream/function.cancelled#r3:cancelled
    33  | return r4 =1                  | completed r4 =1; emit stream/function.finished#r4:finished
    33  | rows Child                    | 0
    34  | raise r2                      | failed r2 !Oops; stop r2 failed; emit stream/function.finished#r2:finished;
        |                               | emit stream/function.failed#r2:failed
    35  | rows Timer                    | 0
    """


@table()
def test_a_request_cancels_the_runs_that_a_run_waits_for() -> None:
    """Those that would continue, too, and the runs that they wait for; not one whose step has ended.

    10 | function f on=go              | -
    10 | function g                    | -
    10 | event go                      | began r1 f; start r1
    11 | plan r1 invoke:a:g:500        | planned a until 511; began r2 g; start r2
    11 | plan r1 invoke:b:g:500:cancel | planned b until 511; began r3 g; start r3
    11 | plan r1 invoke:c:g:500        | planned c until 511; began r4 g; start r4
    12 | plan r2 invoke:d:g:500        | planned d until 512; began r5 g; start r5
    13 | plan r1 cancel=c              | dropped c
    14 | cancel r1 children            | cancelled r1 !run-cancelled; stop r1 cancelled;
       |                               | emit stream/function.finished#r1:finished;
       |                               | emit stream/function.cancelled#r1:cancelled;
       |                               | cancelled r2 !run-cancelled; stop r2 cancelled;
       |                               | emit stream/function.finished#r2:finished;
       |                               | emit stream/function.cancelled#r2:cancelled;
       |                               | cancelled r3 !run-cancelled; stop r3 cancelled;
       |                               | emit stream/function.finished#r3:finished;
       |                               | emit stream/function.cancelled#r3:cancelled;
       |                               | cancelled r5 !run-cancelled; stop r5 cancelled;
       |                               | emit stream/function.finished#r5:finished;
       |                               | emit stream/function.cancelled#r5:cancelled
    15 | rows Child                    | 0
    15 | return r4 =1                  | completed r4 =1; emit stream/function.finished#r4:finished
    15 | rows Timer                    | 0
    """
