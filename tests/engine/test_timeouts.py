"""Timeouts of runs, as record tables: until the first code is executed, and from then until the end."""

from stepstream.contract.limits import FINISH_GRACE_MS
from tests.engine.tables import Line, World, table

ENDS = ["emit stream/function.finished#r1:finished", "emit stream/function.cancelled#r1:cancelled"]


@table()
def test_a_run_that_does_not_start_in_time_is_cancelled() -> None:
    """No worker executes it in time; its caller gets an answer, and no failure handler runs.

    10  | function f on_failure=h on=go start=100 | -
    10  | function h            | -
    10  | event go              | began r1 f by 110; start r1 announced
    10  | event go              | began r2 f by 110; start r2 announced
    50  | execute r2            | executes until 0
    51  | execute r2            | -
    110 | tick                  | cancelled r1 !run-cancelled; stop r1 cancelled;
        |                       | emit stream/function.finished#r1:finished;
        |                       | emit stream/function.cancelled#r1:cancelled
    110 | count runs_cancelled f start-timeout | 1
    111 | execute r1            | -
    900 | tick                  | -
    901 | return r2 =1          | completed r2 =1; emit stream/function.finished#r2:finished
    902 | rows Timer            | 0
    """


@table()
def test_the_time_to_start_counts_from_when_a_run_is_due() -> None:
    """A scheduled run waits for its time first. A claim, a pause and a lost command do not stop the time.

    10  | function f on=go start=100 | -
    10  | event go ts=500            | began r1 f for 500 by 600
    10  | event go                   | began r2 f by 110; start r2 announced
    20  | pause r2                   | paused by ann until 0; reload r2
    30  | unpause r2                 | unpaused by ann; reload r2
    31  | claim r2 c1                | moved to epoch 2; load r2 for c1 announced
    32  | pause r2                   | paused by ann until 0; reload r2
    33  | execute r2                 | -
    34  | execute r2 epoch=2         | executes until 0
    35  | unpause r2                 | unpaused by ann; reload r2
    36  | claim r2 c2                | moved to epoch 3; load r2 for c2
    500 | tick                       | start r1 announced
    599 | tick                       | -
    600 | tick                       | cancelled r1 !run-cancelled; stop r1 cancelled;
        |                            | emit stream/function.finished#r1:finished;
        |                            | emit stream/function.cancelled#r1:cancelled
    601 | return r2 =1 epoch=3       | completed r2 =1; emit stream/function.finished#r2:finished
    602 | rows Timer                 | 0
    """


@table()
def test_a_run_that_does_not_end_in_time_is_cancelled_when_it_is_claimed() -> None:
    """The worker lets running bodies end, whose results are kept, and claims the run. The time counts from the start.

    10  | function f on=go finish=100 | -
    10  | event go           | began r1 f; start r1 announced
    40  | tick               | -
    50  | execute r1         | executes until 150
    60  | plan r1 sleep:a:99 | planned a until 99
    99  | tick               | kept a=null; resume r1 a=null
    150 | tick               | expired until 600150; reload r1 expired
    160 | report r1 b =1     | kept b=1
    170 | claim r1 c1        | cancelled r1 !run-cancelled; stop r1 cancelled;
        |                    | emit stream/function.finished#r1:finished;
        |                    | emit stream/function.cancelled#r1:cancelled
    170 | count runs_cancelled f finish-timeout | 1
    171 | claim r1 c2        | stop r1 ended
    172 | rows Timer         | 0
    """


@table()
def test_code_that_is_running_when_the_time_has_passed_may_end() -> None:
    """The run completes, or fails, if the code ends and requests nothing further.

    10  | function f on=go start=9 finish=100 | -
    10  | event go           | began r1 f by 19; start r1 announced
    10  | event go           | began r2 f by 19; start r2 announced
    11  | execute r1         | executes until 111
    11  | execute r2         | executes until 111
    111 | tick               | expired until 600111; reload r1 expired; expired until 600111; reload r2 expired
    120 | report r1 b =1     | kept b=1
    121 | return r1 =1       | completed r1 =1; emit stream/function.finished#r1:finished
    122 | raise r2           | failed r2 !Oops; stop r2 failed; emit stream/function.finished#r2:finished;
        |                    | emit stream/function.failed#r2:failed
    123 | rows Timer         | 0
    """


@table()
def test_nothing_further_starts_when_the_time_has_passed() -> None:
    """Code that asks for another step, and an attempt that would be repeated, end the run at once.

    10  | function f on=go finish=100 | -
    10  | event go              | began r1 f; start r1 announced
    10  | event go              | began r2 f; start r2 announced
    10  | event go              | began r3 f; start r3 announced
    10  | event go              | began r4 f; start r4 announced
    10  | execute r1 & execute r2 & execute r3 & execute r4 | executes until 110; executes until 110;
        |                       | executes until 110; executes until 110
    20  | raise r4 retry=500    | attempt 0 failed, next 520
    30  | pause r3              | paused by ann until 0; reload r3
    110 | tick                  | expired until 600110; reload r1 expired; expired until 600110; reload r3 expired;
        |                       | expired until 600110; reload r2 expired;
        |                       | cancelled r4 !run-cancelled; stop r4 cancelled;
        |                       | emit stream/function.finished#r4:finished;
        |                       | emit stream/function.cancelled#r4:cancelled
    120 | plan r1 wake          | resume r1
    121 | plan r1 send:a:x      | cancelled r1 !run-cancelled; stop r1 cancelled;
        |                       | emit stream/function.finished#r1:finished;
        |                       | emit stream/function.cancelled#r1:cancelled
    122 | fail r2 b retry=9     | cancelled r2 !run-cancelled; stop r2 cancelled;
        |                       | emit stream/function.finished#r2:finished;
        |                       | emit stream/function.cancelled#r2:cancelled
    123 | claim r3 c1           | cancelled r3 !run-cancelled; stop r3 cancelled;
        |                       | emit stream/function.finished#r3:finished;
        |                       | emit stream/function.cancelled#r3:cancelled
    124 | event go              | began r5 f; start r5 announced
    125 | execute r5            | executes until 225
    225 | tick                  | expired until 600225; reload r5 expired
    226 | raise r5 retry=9      | cancelled r5 !run-cancelled; stop r5 cancelled;
        |                       | emit stream/function.finished#r5:finished;
        |                       | emit stream/function.cancelled#r5:cancelled
    227 | rows Timer            | 0
    """


@table()
def test_invoked_runs_and_reruns_have_timeouts() -> None:
    """The timeouts are those of the function that runs.

    10  | function f on=go        | -
    10  | function g start=100    | -
    10  | event go                | began r1 f; start r1
    11  | plan r1 invoke:a:g:500  | planned a until 511; began r2 g by 111; start r2 announced
    111 | tick                    | cancelled r2 !run-cancelled; stop r2 cancelled;
        |                         | emit stream/function.finished#r2:finished;
        |                         | emit stream/function.cancelled#r2:cancelled;
        |                         | kept a!run-cancelled; resume r1 a!run-cancelled
    112 | return r1 =1            | completed r1 =1; emit stream/function.finished#r1:finished
    113 | rerun old g q1 go e1 a:=1 | began r3 g of old by 213; copied a=1; resume r3
    114 | claim r3 c1             | moved to epoch 2; load r3 for c1 a=1 announced
    213 | tick                    | cancelled r3 !run-cancelled; stop r3 cancelled;
        |                         | emit stream/function.finished#r3:finished;
        |                         | emit stream/function.cancelled#r3:cancelled
    """


def test_a_run_without_a_claim_is_cancelled_after_a_period_of_grace() -> None:
    """Its body takes too long, or no worker is there."""
    world = World(1)
    for at, record in ((10, "function f on=go finish=100"), (10, "event go"), (10, "execute r1"), (110, "tick")):
        world.play(Line(at, record, ""))
    assert world.play(Line(109 + FINISH_GRACE_MS, "tick", "")) == []
    ended = world.play(Line(110 + FINISH_GRACE_MS, "tick", ""))
    assert ended == ["cancelled r1 !run-cancelled", "stop r1 cancelled", *ENDS]
    assert world.count_rows("Timer") == 0


@table()
def test_a_scheduled_run_of_a_paused_function_does_not_start_too_late() -> None:
    """The start timeout cancels it, although the time of its start has not come for the engine.

    10  | function f on=go start=50 | -
    10  | event go ts=100       | began r1 f for 100 by 150
    20  | pause-scope function:f | -
    100 | tick                  | -
    150 | tick                  | cancelled r1 !run-cancelled; stop r1 cancelled;
        |                       | emit stream/function.finished#r1:finished;
        |                       | emit stream/function.cancelled#r1:cancelled
    """
