"""Invoked functions, as record tables: the caller is always answered, once."""

from stepstream.contract.limits import Limits
from tests.engine.tables import table


@table()
def test_the_result_of_an_invoked_run_is_that_of_the_step() -> None:
    """An invoked function runs by itself, and its value is the result of the step that invoked it.

    10 | function f on=go       | -
    10 | function g             | -
    10 | event go               | began r1 f; start r1
    11 | plan r1 invoke:a:g:500 | planned a until 511; began r2 g; start r2
    12 | plan r1 invoke:a:g:500 | -
    13 | return r2 =7           | completed r2 =7; emit stream/function.finished#r2:finished; kept a=7; resume r1 a=7
    13 | rows Timer             | 0
    """


@table()
def test_an_unknown_function_answers_at_once() -> None:
    """A function that is not registered, or retired, is a typed error and starts nothing.

    10 | function f on=go                      | -
    10 | function g retired                    | -
    10 | event go                              | began r1 f; start r1
    11 | plan r1 invoke:a:g:500 invoke:b:x:500 | kept a!function-not-found; kept b!function-not-found;
       |                                       | resume r1 a!function-not-found b!function-not-found
    11 | rows Run                              | 1
    """


@table()
def test_the_failure_of_an_invoked_run_fails_the_step() -> None:
    """The failure of the invoked function is the error of the step, after its own attempts.

    10 | function f on=go           | -
    10 | function g                 | -
    10 | event go                   | began r1 f; start r1
    11 | plan r1 invoke:a:g:500     | planned a until 511; began r2 g; start r2
    12 | raise r2 attempt=0 retry=8 | attempt 0 failed, next 20
    20 | tick                       | resume r2
    21 | raise r2 attempt=1         | failed r2 !Oops; stop r2 failed; emit stream/function.finished#r2:finished;
       |                            | emit stream/function.failed#r2:failed; kept a!invoked-run-failed;
       |                            | resume r1 a!invoked-run-failed
    """


@table()
def test_a_cancelled_invoked_run_answers() -> None:
    """When the invoked run is cancelled, its caller gets a typed error.

    10 | function f on=go       | -
    10 | function g             | -
    10 | event go               | began r1 f; start r1
    11 | plan r1 invoke:a:g:500 | planned a until 511; began r2 g; start r2
    12 | cancel r2              | cancelled r2 !run-cancelled; stop r2 cancelled;
       |                        | emit stream/function.finished#r2:finished;
       |                        | emit stream/function.cancelled#r2:cancelled; kept a!run-cancelled;
       |                        | resume r1 a!run-cancelled
    """


@table()
def test_on_timeout_the_invoked_run_continues() -> None:
    """On timeout the caller gets a typed error; the invoked run continues, and its answer is too late.

    10  | function f on=go      | -
    10  | function g            | -
    10  | event go              | began r1 f; start r1
    11  | plan r1 invoke:a:g:89 | planned a until 100; began r2 g; start r2
    99  | tick                  | -
    100 | tick                  | kept a!invoke-timeout; resume r1 a!invoke-timeout
    101 | report r2 b =1        | kept b=1
    102 | return r2 =7          | completed r2 =7; emit stream/function.finished#r2:finished
    """


@table()
def test_the_answer_to_an_ended_caller_is_dropped() -> None:
    """An invoked run continues when its caller is cancelled, and its answer changes nothing.

    10 | function f on=go       | -
    10 | function g             | -
    10 | event go               | began r1 f; start r1
    11 | plan r1 invoke:a:g:500 | planned a until 511; began r2 g; start r2
    12 | cancel r1              | cancelled r1 !run-cancelled; stop r1 cancelled;
       |                        | emit stream/function.finished#r1:finished; emit stream/function.cancelled#r1:cancelled
    13 | return r2 =7           | completed r2 =7; emit stream/function.finished#r2:finished
    """


@table(Limits(steps_per_run_max=1))
def test_a_limit_of_the_invoked_run_keeps_its_code() -> None:
    """The caller sees by the code that the invoked run exceeded a limit.

    10 | function f on=go       | -
    10 | function g             | -
    10 | event go               | began r1 f; start r1
    11 | plan r1 invoke:a:g:500 | planned a until 511; began r2 g; start r2
    12 | report r2 b =1         | kept b=1
    13 | report r2 c =1         | failed r2 !step-limit; stop r2 failed; emit stream/function.finished#r2:finished;
       |                        | emit stream/function.failed#r2:failed; kept a!step-limit; resume r1 a!step-limit
    """


@table(Limits(run_memo_bytes_max=3))
def test_an_answer_may_exceed_a_limit() -> None:
    """An answer or an error that exceeds the caller's limit fails the caller.

    10 | function f on=go       | -
    10 | function g             | -
    10 | event go               | began r1 f; start r1
    11 | plan r1 invoke:a:g:500 | planned a until 511; began r2 g; start r2
    12 | return r2 =1234        | completed r2 =1234; emit stream/function.finished#r2:finished;
       |                        | failed r1 !run-state-limit; stop r1 failed; emit stream/function.finished#r1:finished;
       |                        | emit stream/function.failed#r1:failed
    """
