"""Claims and epochs, as record tables: only the reports of one worker count at a time."""

from stepstream.contract.limits import DEFAULT_LIMITS, WARNINGS_PER_RUN_MAX
from tests.engine.tables import Line, fold, table


@table()
def test_a_claim_gives_a_new_epoch_and_a_repeat_nothing() -> None:
    """The worker that claims gets all of the run under a new epoch; the same claim again changes nothing.

    10 | function f on=go | -
    10 | event go e1      | began r1 f; start r1
    11 | report r1 a =1   | kept a=1
    12 | claim r1 c1      | moved to epoch 2; load r1 for c1 a=1
    13 | claim r1 c1      | -
    14 | claim r1 c2      | moved to epoch 3; load r1 for c2 a=1
    """


@table()
def test_reports_of_an_old_epoch_are_dropped() -> None:
    """Reports of a worker that lost its run to another change nothing and are counted.

    10 | function f on=go             | -
    10 | event go e1                  | began r1 f; start r1
    11 | claim r1 c1                  | moved to epoch 2; load r1 for c1
    12 | report r1 a =1               | -
    12 | fail r1 a attempt=0 retry=10 | -
    12 | plan r1 sleep:s:100 ack      | -
    12 | warn r1 odd                  | -
    12 | raise r1 attempt=0           | -
    12 | return r1 =1                 | -
    12 | count stale_reports          | 6
    13 | return r1 =2 epoch=2         | completed r1 =2; emit stream/function.finished#r1:finished
    """


@table()
def test_a_claim_of_an_ended_run_is_answered_by_a_stop() -> None:
    """A claim of a run that ended or never existed is answered by a stop; reports of it are dropped.

    10 | function f on=go | -
    10 | event go e1      | began r1 f; start r1
    11 | return r1 =1     | completed r1 =1; emit stream/function.finished#r1:finished
    12 | claim r1 c1      | stop r1 ended
    12 | claim r9 c1      | stop r9 ended
    12 | return r1 =2     | -
    12 | report r1 a =1   | -
    12 | fail r1 a        | -
    12 | plan r1 send:b:x | -
    12 | raise r1         | -
    12 | cancel r1        | -
    12 | rows Run         | 0
    12 | rows Memo        | 0
    """


@table()
def test_a_claim_loads_results_in_the_order_code_saw_them() -> None:
    """The order is by (engine results seen, own results), not by step or arrival.

    10  | function f on=go               | -
    10  | event go e1                    | began r1 f; start r1
    11  | plan r1 sleep:z:100 sleep:y:50 | planned z until 100; planned y until 50
    12  | report r1 x =1                 | kept x=1
    13  | report r1 b =2                 | kept b=2
    50  | tick                           | kept y=null; resume r1 y=null
    51  | report r1 a =3                 | kept a=3
    52  | report r1 c =4 seen=1          | kept c=4
    100 | tick                           | kept z=null; resume r1 z=null
    101 | claim r1 c1                    | moved to epoch 2; load r1 for c1 x=1 b=2 a=3 y=null c=4 z=null
    """


@table()
def test_a_claim_lists_open_steps() -> None:
    """Steps without a result have their attempt; those whose attempt is due are marked ready.

    10 | function f on=go             | -
    10 | event go e1                  | began r1 f; start r1
    11 | plan r1 sleep:s:500          | planned s until 500
    12 | fail r1 a attempt=0 retry=10 | attempt 0 of a failed, next 22
    12 | fail r1 b attempt=0 retry=90 | attempt 0 of b failed, next 102
    22 | tick                         | resume r1 a#1
    23 | claim r1 c1                  | moved to epoch 2; load r1 for c1 a#1! b#1 s#0
    """


@table()
def test_commands_carry_the_epoch_of_the_claim() -> None:
    """After a claim the engine's results go to the run as before, and reports of the previous worker do not count.

    10 | function f on=go        | -
    10 | event go e1             | began r1 f; start r1
    11 | plan r1 wait:w:come:500 | planned w until 511
    12 | claim r1 c1             | moved to epoch 2; load r1 for c1 w#0
    13 | event come e2           | kept w=come:e2; resume r1 w=come:e2
    14 | return r1 =1 epoch=1    | -
    15 | return r1 =2 epoch=2    | completed r1 =2; emit stream/function.finished#r1:finished
    """


@table()
def test_a_warning_is_kept_once() -> None:
    """A replay may repeat a warning; history and the end of the run have each warning once.

    10 | function f on=go     | -
    10 | event go e1          | began r1 f; start r1
    11 | warn r1 odd          | warned odd
    12 | warn r1 odd          | -
    13 | warn r1 strange      | warned strange
    13 | count run_warnings f | 2
    14 | return r1 =1         | completed r1 =1 warned odd warned strange; emit stream/function.finished#r1:finished
    """


def test_warnings_are_bounded() -> None:
    """A run keeps 20 warnings and drops further ones."""
    lines = [Line(10, "function f on=go", ""), Line(10, "event go", "began r1 f; start r1")]
    lines += [Line(11, f"warn r1 odd-{number}", f"warned odd-{number}") for number in range(WARNINGS_PER_RUN_MAX)]
    lines += [Line(12, "warn r1 odd-too", ""), Line(12, "count run_warnings f", "20")]
    fold(lines, 1, DEFAULT_LIMITS)
