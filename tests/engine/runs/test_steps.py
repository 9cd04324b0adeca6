"""Steps that workers run, as record tables: the first result counts, attempts, back-off and limits."""

from stepstream.contract.limits import Limits
from tests.engine.tables import Line, fold, table


@table()
def test_the_first_result_wins() -> None:
    """A repeated report is a success that changes nothing; a different result does not replace the first.

    10 | function f on=go             | -
    10 | event go e1                  | began r1 f; start r1
    11 | report r1 a =1               | kept a=1
    12 | report r1 a =1               | -
    13 | report r1 a =2               | -
    14 | report r1 a !Oops            | -
    15 | fail r1 a attempt=0 retry=10 | -
    16 | plan r1 sleep:a:99           | -
    17 | claim r1 c1                  | moved to epoch 2; load r1 for c1 a=1
    """


@table()
def test_an_error_is_a_result_too() -> None:
    """A step without attempts left keeps its error like any other result.

    10 | function f on=go  | -
    10 | event go e1       | began r1 f; start r1
    11 | report r1 a !Oops | kept a!Oops
    12 | report r1 a =1    | -
    13 | claim r1 c1       | moved to epoch 2; load r1 for c1 a!Oops
    """


@table()
def test_a_failed_attempt_is_retried_at_its_time() -> None:
    """The next attempt is due when the worker said, not earlier and not twice; the last one gives the result.

    10  | function f on=go              | -
    10  | event go e1                   | began r1 f; start r1
    11  | fail r1 a attempt=0 retry=100 | attempt 0 of a failed, next 111
    12  | fail r1 a attempt=0 retry=100 | -
    110 | tick                          | -
    111 | tick                          | resume r1 a#1
    112 | tick                          | -
    113 | fail r1 a attempt=1 retry=50  | attempt 1 of a failed, next 163
    163 | tick                          | resume r1 a#2
    164 | report r1 a =1 attempt=2      | kept a=1
    165 | fail r1 a attempt=2 retry=1   | -
    166 | rows OpenStep                 | 0
    """


@table()
def test_a_result_before_the_next_attempt_removes_its_timer() -> None:
    """A step that gets its result while an attempt is pending is not retried.

    10  | function f on=go              | -
    10  | event go e1                   | began r1 f; start r1
    11  | fail r1 a attempt=0 retry=100 | attempt 0 of a failed, next 111
    12  | report r1 a =1 attempt=1      | kept a=1
    12  | rows Timer                    | 0
    111 | tick                          | -
    """


@table()
def test_a_second_failure_moves_the_timer() -> None:
    """The failure of a later attempt replaces the timer of an earlier one: one attempt is due, at the later time.

    10  | function f on=go              | -
    10  | event go e1                   | began r1 f; start r1
    11  | fail r1 a attempt=0 retry=100 | attempt 0 of a failed, next 111
    12  | fail r1 a attempt=1 retry=200 | attempt 1 of a failed, next 212
    12  | rows Timer                    | 1
    111 | tick                          | -
    212 | tick                          | resume r1 a#2
    """


@table()
def test_a_body_in_place_of_a_wait_removes_the_wait() -> None:
    """When the code changed and a former wait is now a body, its attempts leave nothing of the wait.

    10  | function f on=go              | -
    10  | event go e1                   | began r1 f; start r1
    11  | plan r1 wait:a:come:500       | planned a until 511
    12  | fail r1 a attempt=0 retry=100 | attempt 0 of a failed, next 112
    12  | rows Wait                     | 0
    12  | rows Timer                    | 1
    13  | event come                    | -
    14  | matched r1 a come e2          | -
    112 | tick                          | resume r1 a#1
    511 | tick                          | -
    512 | plan r1 wait:b:come:500       | planned b until 1012
    513 | report r1 b =1                | kept b=1
    513 | rows Wait                     | 0
    513 | rows Timer                    | 0
    """


@table()
def test_code_between_steps_is_retried() -> None:
    """The code between steps has its own back-off; meanwhile a claim waits and a repeat changes nothing.

    10  | function f on=go             | -
    10  | event go e1                  | began r1 f; start r1
    11  | raise r1 attempt=0 retry=100 | attempt 0 failed, next 111
    12  | raise r1 attempt=0 retry=100 | -
    12  | raise r1 attempt=1 retry=5   | -
    13  | claim r1 c1                  | stop r1 waiting
    110 | tick                         | -
    111 | tick                         | resume r1
    112 | raise r1 attempt=0 retry=100 | -
    113 | claim r1 c1                  | moved to epoch 2; load r1 for c1
    114 | raise r1 attempt=1 epoch=2   | failed r1 !Oops; stop r1 failed; emit stream/function.finished#r1:finished;
        |                              | emit stream/function.failed#r1:failed
    """


@table()
def test_progress_of_a_step_resets_the_attempts_of_code() -> None:
    """A result or a failed attempt of a step resets the number of failures of the code between steps.

    10 | function f on=go            | -
    10 | event go e1                 | began r1 f; start r1
    11 | raise r1 attempt=0 retry=10 | attempt 0 failed, next 21
    21 | tick                        | resume r1
    22 | raise r1 attempt=0 retry=10 | -
    23 | report r1 a =1              | kept a=1
    24 | raise r1 attempt=0 retry=10 | attempt 0 failed, next 34
    """


@table()
def test_results_are_kept_while_the_code_backs_off() -> None:
    """Results of workers and of the engine are kept during a back-off, and do not shorten it.

    10  | function f on=go                                      | -
    10  | event go e1                                           | began r1 f; start r1
    11  | plan r1 sleep:s:50 wait:w:come:500 signal:g:pager:500 | planned w until 511; planned g until 511;
        |                                                       | planned s until 50
    12  | raise r1 attempt=0 retry=100                          | attempt 0 failed, next 112
    13  | report r1 a =1                                        | kept a=1
    14  | fail r1 b attempt=0 retry=10                          | attempt 0 of b failed, next 24
    15  | warn r1 odd                                           | warned odd
    16  | plan r1 sleep:t:60                                    | planned t until 60
    24  | tick                                                  | resume r1 b#1
    50  | tick                                                  | kept s=null; resume r1 s=null
    55  | event come e2                                         | kept w=come:e2; resume r1 w=come:e2
    56  | signal pager =1                                       | kept g=1; resume r1 g=1
    111 | tick                                                  | kept t=null; resume r1 t=null
    112 | tick                                                  | resume r1
    """


@table()
def test_a_run_may_end_while_its_code_backs_off() -> None:
    """A cancellation ends a run between its attempts, and removes its timer.

    10  | function f on=go             | -
    10  | event go e1                  | began r1 f; start r1
    11  | raise r1 attempt=0 retry=100 | attempt 0 failed, next 111
    12  | cancel r1                    | cancelled r1 !run-cancelled; stop r1 cancelled;
        |                              | emit stream/function.finished#r1:finished;
        |                              | emit stream/function.cancelled#r1:cancelled
    111 | tick                         | -
    """


@table()
def test_a_return_during_a_back_off_is_accepted() -> None:
    """Code that reached its end needs no further attempt.

    10  | function f on=go             | -
    10  | event go e1                  | began r1 f; start r1
    11  | raise r1 attempt=0 retry=100 | attempt 0 failed, next 111
    12  | return r1 =1                 | completed r1 =1; emit stream/function.finished#r1:finished
    111 | tick                         | -
    """


FAILED = "emit stream/function.finished#r1:finished; emit stream/function.failed#r1:failed"


@table(Limits(steps_per_run_max=3))
def test_the_last_allowed_step_is_fine() -> None:
    """A run may have exactly the allowed number of steps and return.

    10 | function f on=go | -
    10 | event go e1      | began r1 f; start r1
    11 | report r1 a =1   | kept a=1
    12 | report r1 b =1   | kept b=1
    13 | report r1 c =1   | kept c=1
    14 | return r1 =1     | completed r1 =1; emit stream/function.finished#r1:finished
    """


@table(Limits(steps_per_run_max=3))
def test_a_step_too_many_fails_the_run() -> None:
    """The step after the last allowed one fails the run without retry, whatever its kind, and leaves nothing.

    10 | function f on=go                               | -
    10 | event go e1                                    | began r1 f; start r1
    11 | plan r1 sleep:a:500 wait:b:come:500 send:c:x#y | planned b until 511; planned a until 500; kept c=["y"];
       |                                                | emit x#y; resume r1 c=["y"]
    12 | plan r1 signal:d:pager:500                     | failed r1 !step-limit; stop r1 failed;
       |                                                | emit stream/function.finished#r1:finished;
       |                                                | emit stream/function.failed#r1:failed
    13 | rows Wait                                      | 0
    13 | rows SignalWaiter                              | 0
    13 | rows Timer                                     | 0
    """


@table(Limits(steps_per_run_max=1))
def test_a_plan_beyond_the_limit_has_no_effect() -> None:
    """A wait, signal, call or event beyond the limit leaves no row elsewhere, and starts and sends nothing.

    10 | function f on=go                                | -
    10 | function g                                      | -
    10 | event go                                        | began r1 f; start r1
    10 | event go                                        | began r2 f; start r2
    10 | event go                                        | began r3 f; start r3
    10 | event go                                        | began r4 f; start r4
    11 | plan r1 wait:a:come:500:data.id wait:b:come:500 | planned a until 511; failed r1 !step-limit; stop r1 failed;
       |                                                 | emit stream/function.finished#r1:finished;
       |                                                 | emit stream/function.failed#r1:failed
    11 | rows Wait                                       | 0
    12 | plan r2 signal:a:x:500 signal:b:y:500           | planned a until 512; failed r2 !step-limit; stop r2 failed;
       |                                                 | emit stream/function.finished#r2:finished;
       |                                                 | emit stream/function.failed#r2:failed
    12 | rows SignalWaiter                               | 0
    13 | plan r3 sleep:a:500 invoke:b:g:9                | planned a until 500; failed r3 !step-limit; stop r3 failed;
       |                                                 | emit stream/function.finished#r3:finished;
       |                                                 | emit stream/function.failed#r3:failed
    14 | plan r4 sleep:a:500 send:b:x#y                  | planned a until 500; failed r4 !step-limit; stop r4 failed;
       |                                                 | emit stream/function.finished#r4:finished;
       |                                                 | emit stream/function.failed#r4:failed
    14 | rows Run                                        | 0
    14 | rows Timer                                      | 0
    """


@table(Limits(steps_per_run_max=2))
def test_a_failed_attempt_counts_as_a_step_once() -> None:
    """A step counts at its first report or plan, not again for each attempt or its result.

    10 | function f on=go            | -
    10 | event go e1                 | began r1 f; start r1
    11 | fail r1 a attempt=0 retry=1 | attempt 0 of a failed, next 12
    12 | tick                        | resume r1 a#1
    13 | fail r1 a attempt=1 retry=1 | attempt 1 of a failed, next 14
    14 | tick                        | resume r1 a#2
    15 | report r1 a =1              | kept a=1
    16 | report r1 b =1              | kept b=1
    17 | fail r1 c attempt=0 retry=1 | failed r1 !step-limit; stop r1 failed; emit stream/function.finished#r1:finished;
       |                             | emit stream/function.failed#r1:failed
    """


@table(Limits(run_memo_bytes_max=8))
def test_too_many_bytes_of_results_fail_the_run() -> None:
    """The results of a run have a total limit in bytes; one byte more fails it without retry.

    10 | function f on=go  | -
    10 | event go e1       | began r1 f; start r1
    11 | report r1 a =1234 | kept a=1234
    12 | report r1 b =1234 | kept b=1234
    13 | report r1 c =1    | failed r1 !run-state-limit; stop r1 failed; emit stream/function.finished#r1:finished;
       |                   | emit stream/function.failed#r1:failed
    """


@table(Limits(run_memo_bytes_max=3))
def test_results_of_the_engine_count_as_bytes_too() -> None:
    """An event, a signal, an answer or the end of a sleep may be the result that exceeds the limit.

    10 | function f on=go           | -
    10 | event go                   | began r1 f; start r1
    10 | event go                   | began r2 f; start r2
    10 | event go                   | began r3 f; start r3
    11 | plan r1 wait:a:come:500    | planned a until 511
    11 | plan r2 signal:a:pager:500 | planned a until 511
    11 | plan r3 sleep:a:20         | planned a until 20
    12 | event come                 | failed r1 !run-state-limit; stop r1 failed;
       |                            | emit stream/function.finished#r1:finished; emit stream/function.failed#r1:failed
    13 | signal pager ={"a":1}      | failed r2 !run-state-limit; stop r2 failed;
       |                            | emit stream/function.finished#r2:finished; emit stream/function.failed#r2:failed
    20 | tick                       | failed r3 !run-state-limit; stop r3 failed;
       |                            | emit stream/function.finished#r3:finished; emit stream/function.failed#r3:failed
    """


@table(Limits(run_memo_bytes_max=10))
def test_errors_count_with_all_their_bytes() -> None:
    """All results of a run are in one record for the worker that claims it, so their sizes must be exact.

    10 | function f on=go  | -
    10 | event go e1       | began r1 f; start r1
    11 | report r1 a !Oops | failed r1 !run-state-limit; stop r1 failed; emit stream/function.finished#r1:finished;
       |                   | emit stream/function.failed#r1:failed
    """


@table(Limits(steps_per_run_max=1, run_memo_bytes_max=3))
def test_a_limit_ends_a_run_between_its_attempts_too() -> None:
    """A limit exceeded while the code backs off fails the run at once and removes its timer.

    10  | function f on=go                | -
    10  | event go                        | began r1 f; start r1
    10  | event go                        | began r2 f; start r2
    10  | event go                        | began r3 f; start r3
    10  | event go                        | began r4 f; start r4
    10  | event go                        | began r5 f; start r5
    10  | event go                        | began r6 f; start r6
    11  | plan r1 wait:a:come:500         | planned a until 511
    11  | plan r2 signal:a:pager:500      | planned a until 511
    11  | plan r3 sleep:a:20              | planned a until 20
    12  | raise r1 attempt=0 retry=100    | attempt 0 failed, next 112
    12  | raise r2 attempt=0 retry=100    | attempt 0 failed, next 112
    12  | raise r3 attempt=0 retry=100    | attempt 0 failed, next 112
    12  | raise r4 attempt=0 retry=100    | attempt 0 failed, next 112
    12  | raise r5 attempt=0 retry=100    | attempt 0 failed, next 112
    12  | raise r6 attempt=0 retry=100    | attempt 0 failed, next 112
    13  | event come                      | failed r1 !run-state-limit; stop r1 failed;
        |                                 | emit stream/function.finished#r1:finished;
        |                                 | emit stream/function.failed#r1:failed
    13  | signal pager ={"a":1}           | failed r2 !run-state-limit; stop r2 failed;
        |                                 | emit stream/function.finished#r2:finished;
        |                                 | emit stream/function.failed#r2:failed
    13  | report r4 b =1234               | failed r4 !run-state-limit; stop r4 failed;
        |                                 | emit stream/function.finished#r4:finished;
        |                                 | emit stream/function.failed#r4:failed
    13  | plan r5 sleep:b:500 sleep:c:500 | planned b until 500; failed r5 !step-limit; stop r5 failed;
        |                                 | emit stream/function.finished#r5:finished;
        |                                 | emit stream/function.failed#r5:failed
    13  | fail r6 b attempt=0 retry=5     | attempt 0 of b failed, next 18
    14  | fail r6 c attempt=0 retry=5     | failed r6 !step-limit; stop r6 failed;
        |                                 | emit stream/function.finished#r6:finished;
        |                                 | emit stream/function.failed#r6:failed
    20  | tick                            | failed r3 !run-state-limit; stop r3 failed;
        |                                 | emit stream/function.finished#r3:finished;
        |                                 | emit stream/function.failed#r3:failed
    112 | tick                            | -
    112 | rows Timer                      | 0
    112 | rows Wait                       | 0
    112 | rows SignalWaiter               | 0
    """


def test_the_limit_of_steps_is_1000_by_default() -> None:
    """1,000 steps are fine; the 1,001st fails the run."""
    lines = [Line(10, "function f on=go", ""), Line(10, "event go e1", "began r1 f; start r1")]
    lines += [Line(11, f"report r1 s{number} =1", f"kept s{number}=1") for number in range(1_000)]
    last = Line(12, "report r1 one-more =1", f"failed r1 !step-limit; stop r1 failed; {FAILED}")
    fold([*lines, last], 1, Limits())
