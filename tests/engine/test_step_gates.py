"""Limits on the bodies of steps, as record tables: how many of them run at a time."""

from stepstream.contract.limits import Limits
from tests.engine.tables import table


@table()
def test_bodies_beyond_a_limit_wait_in_order() -> None:
    """Each attempt takes a permit; a result returns it, and at the end of the runs no row is left.

    10 | function f on=go steps=2::two | -
    10 | event go                  | began r1 f; start r1
    11 | plan r1 run:a run:b run:c | planned a until 0; planned b until 0; planned c until 0;
       |                           | resume r1 a#0; resume r1 b#0
    12 | event go                  | began r2 f; start r2
    13 | plan r2 run:d             | planned d until 0
    14 | count gate_waits two  | 2
    20 | report r1 a =1            | kept a=1; resume r1 c#0
    21 | report r1 b =1            | kept b=1; resume r2 d#0
    22 | report r1 c =1            | kept c=1
    23 | report r2 d =1            | kept d=1
    24 | rows GateState            | 0
    24 | rows GateRun              | 0
    24 | return r1 =1              | completed r1 =1; emit stream/function.finished#r1:finished
    """


@table()
def test_a_failed_attempt_returns_its_permit_until_the_next() -> None:
    """Between two attempts another body runs; the next attempt asks again, behind those that wait.

    10  | function f on=go steps=1           | -
    10  | event go                           | began r1 f; start r1
    11  | event go                           | began r2 f; start r2
    12  | plan r1 run:a                      | planned a until 0; resume r1 a#0
    13  | plan r2 run:a                      | planned a until 0
    20  | fail r1 a attempt=0 retry=100       | attempt 0 of a failed, next 120; resume r2 a#0
    120 | tick                               | -
    130 | report r2 a =1                     | kept a=1; resume r1 a#1
    140 | report r1 a =2 attempt=1           | kept a=2
    141 | rows GateRun                       | 0
    """


@table()
def test_a_body_in_a_queue_waits_for_its_permit_first() -> None:
    """The workers of the queue get its command with the permit, and a claim before that is refused.

    10 | function f on=go steps=1 queues=gpu | -
    10 | event go                            | began r1 f; start r1
    11 | plan r1 run:a:gpu run:b:gpu         | planned a until 0; planned b until 0; dispatch r1 a#0
    12 | claim-step r1 b c1 queue=gpu        | stop r1 b ended
    13 | report r1 a =1 queue=gpu            | kept a=1; resume r1 a=1; dispatch r1 b#0 a=1
    14 | report r1 b =1 queue=gpu            | kept b=1; resume r1 b=1
    15 | rows GateRun                        | 0
    """


@table()
def test_a_worker_that_claims_a_run_gets_the_bodies_that_have_a_permit() -> None:
    """The body that waits is open and not due; its permit comes as news.

    10 | function f on=go steps=1 | -
    10 | event go                 | began r1 f; start r1
    11 | plan r1 run:a run:b      | planned a until 0; planned b until 0; resume r1 a#0
    12 | claim r1 c1              | moved to epoch 2; load r1 for c1 a#0! b#0
    13 | report r1 a =1 epoch=2   | kept a=1; resume r1 b#0
    """


@table()
def test_a_run_that_ends_returns_the_permits_of_its_steps() -> None:
    """Whether they run or wait, and however it ends; so does a step that the code no longer awaits.

    10 | function f on=go steps=1  | -
    10 | event go                  | began r1 f; start r1
    11 | plan r1 run:a run:b       | planned a until 0; planned b until 0; resume r1 a#0
    12 | event go                  | began r2 f; start r2
    13 | plan r2 run:a run:b       | planned a until 0; planned b until 0
    20 | cancel r1                 | cancelled r1 !run-cancelled; stop r1 cancelled;
       |                           | emit stream/function.finished#r1:finished;
       |                           | emit stream/function.cancelled#r1:cancelled; resume r2 a#0
    21 | plan r2 cancel=a          | dropped a; resume r2 b#0
    22 | report r2 b =1            | kept b=1
    23 | rows GateState            | 0
    """


@table()
def test_the_code_may_drop_a_body_that_waits() -> None:
    """It leaves the queue; one that only leaves its group keeps its place.

    10 | function f on=go steps=1    | -
    10 | event go                    | began r1 f; start r1
    11 | plan r1 run:a run:b run:c@g | planned a until 0; planned b until 0; planned c until 0; resume r1 a#0
    12 | plan r1 cancel=b            | dropped b
    13 | plan r1 ungroup=c           | resume r1
    14 | report r1 a =1              | kept a=1; resume r1 c#0
    15 | report r1 c =1              | kept c=1
    16 | rows GateState              | 0
    """


@table()
def test_each_value_of_a_key_has_a_limit_on_its_bodies() -> None:
    """Two limits are taken one after the other, the narrower first.

    10 | function f on=go steps=1:event.data.t;2::shared | -
    10 | event go {"t":"a"}   | began r1 f; start r1
    10 | event go {"t":"a"}   | began r2 f; start r2
    10 | event go {"t":"b"}   | began r3 f; start r3
    10 | event go {"t":"c"}   | began r4 f; start r4
    11 | plan r1 run:a        | planned a until 0; resume r1 a#0
    11 | plan r2 run:a        | planned a until 0
    11 | plan r3 run:a        | planned a until 0; resume r3 a#0
    11 | plan r4 run:a        | planned a until 0
    20 | report r3 a =1       | kept a=1; resume r4 a#0
    21 | report r4 a =1       | kept a=1
    22 | report r1 a =1       | kept a=1; resume r2 a#0
    """


@table()
def test_a_permit_that_comes_in_a_pause_waits_for_its_end() -> None:
    """The run keeps it, and the claim after the pause has it.

    10 | function f on=go steps=1 | -
    10 | event go                 | began r1 f; start r1
    10 | event go                 | began r2 f; start r2
    11 | plan r1 run:a            | planned a until 0; resume r1 a#0
    11 | plan r2 run:a            | planned a until 0
    12 | pause r2                 | paused by ann until 0; reload r2
    20 | report r1 a =1           | kept a=1
    30 | unpause r2               | unpaused by ann; reload r2
    31 | claim r2 c1              | moved to epoch 2; load r2 for c1 a#0!
    """


@table()
def test_code_without_the_limit_any_longer_needs_no_permit() -> None:
    """A worker with newer code reports the result of a body that waits here, which leaves the queue.

    10 | function f on=go steps=1 | -
    10 | event go                 | began r1 f; start r1
    10 | event go                 | began r2 f; start r2
    11 | plan r1 run:a            | planned a until 0; resume r1 a#0
    11 | plan r2 run:a            | planned a until 0
    12 | report r2 a =1           | kept a=1
    13 | report r1 a =1           | kept a=1
    14 | rows GateState           | 0
    """


@table()
def test_a_run_shows_the_limit_for_which_its_step_waits() -> None:
    """With its place; a run whose steps wait for none has no such limit.

    10 | function f on=go steps=1::one | -
    10 | event go                      | began r1 f; start r1
    10 | event go                      | began r2 f; start r2
    11 | plan r1 run:a                 | planned a until 0; resume r1 a#0
    12 | plan r2 run:a run:b           | planned a until 0; planned b until 0
    13 | limit-of r2                   | one: 1/1, by r1, 2 waiting since 12: r2, place 1
    13 | limit-of r1                   | no limit
    """


@table()
def test_a_permit_that_comes_while_its_function_is_paused_waits() -> None:
    """Also that of a run whose code waits for its next attempt; the claim after the pause has the body.

    10 | function f on=go steps=1   | -
    10 | event go                   | began r1 f; start r1
    10 | event go                   | began r2 f; start r2
    10 | event go                   | began r3 f; start r3
    11 | plan r1 run:a              | planned a until 0; resume r1 a#0
    11 | plan r2 run:a              | planned a until 0
    11 | plan r3 run:a              | planned a until 0
    12 | raise r3 retry=100         | attempt 0 failed, next 112
    13 | pause-scope function:f     | -
    20 | report r1 a =1             | kept a=1
    21 | fail r2 a retry=10         | attempt 0 of a failed, next 31
    22 | resume-scope function:f    | reload r2
    23 | claim r2 c1                | moved to epoch 2; load r2 for c1 a#1
    112 | tick                      | resume r3
    113 | claim r3 c1               | moved to epoch 2; load r3 for c1 a#0!
    """


@table()
def test_a_permit_in_a_paused_queue_waits_for_its_end() -> None:
    """The step keeps it, and is dispatched when the queue is resumed.

    10 | function f on=go steps=1 queues=gpu | -
    10 | event go                            | began r1 f; start r1
    11 | plan r1 run:a:gpu run:b:gpu         | planned a until 0; planned b until 0; dispatch r1 a#0
    12 | pause-scope queue:app.gpu           | -
    13 | report r1 a =1 queue=gpu            | kept a=1; resume r1 a=1
    20 | resume-scope queue:app.gpu          | -
    20 | tick                                | dispatch r1 b#0 a=1
    """


@table()
def test_newer_code_may_fail_a_body_that_waits() -> None:
    """A worker whose code has no limit any longer reports the attempt, and the step asks again for the next one.

    10 | function f on=go steps=1 | -
    10 | event go                 | began r1 f; start r1
    10 | event go                 | began r2 f; start r2
    11 | plan r1 run:a            | planned a until 0; resume r1 a#0
    11 | plan r2 run:a            | planned a until 0
    12 | fail r2 a retry=10       | attempt 0 of a failed, next 22
    13 | report r1 a =1           | kept a=1
    14 | rows GateState           | 0
    22 | tick                     | resume r2 a#1
    """


@table(Limits(steps_per_run_max=1))
def test_a_run_that_outgrows_its_limits_by_a_limited_step_has_no_permit() -> None:
    """The step was never open, so nothing would return its permit.

    10 | function f on=go steps=1 | -
    10 | event go                 | began r1 f; start r1
    11 | plan r1 run:a            | planned a until 0; resume r1 a#0
    12 | report r1 a =1           | kept a=1
    13 | plan r1 run:b            | failed r1 !step-limit; stop r1 failed;
       |                          | emit stream/function.finished#r1:finished;
       |                          | emit stream/function.failed#r1:failed
    14 | rows GateRun             | 0
    """


@table()
def test_a_run_beyond_its_time_starts_no_body() -> None:
    """The body that runs may end the run; the others stay open until the run ends.

    10 | function f on=go steps=1 finish=50 queues=gpu | -
    10 | event go                                      | began r1 f; start r1 announced
    10 | execute r1                                    | executes until 60
    11 | plan r1 run:a:gpu run:b:gpu                   | planned a until 0; planned b until 0; dispatch r1 a#0
    60 | tick                                          | expired until 600060; reload r1 expired
    61 | report r1 a =1 queue=gpu                      | kept a=1; resume r1 a=1
    62 | claim-step r1 b c1 queue=gpu                  | stop r1 b ended
    63 | return r1 =1                                  | completed r1 =1; emit stream/function.finished#r1:finished
    64 | rows GateRun                                  | 0
    """


@table()
def test_a_second_report_of_missing_code_finds_a_step_that_waits() -> None:
    """It changes nothing: the step is no longer with a worker.

    10 | function f on=go steps=1 queues=gpu  | -
    10 | event go                             | began r1 f; start r1
    10 | event go                             | began r2 f; start r2
    11 | plan r1 run:a:gpu                    | planned a until 0; dispatch r1 a#0
    12 | postpone-step r1 a queue=gpu for=10  | warned no code
    13 | plan r2 run:a:gpu                    | planned a until 0; dispatch r2 a#0
    22 | tick                                 | -
    23 | postpone-step r1 a queue=gpu for=10  | -
    24 | report r2 a =1 queue=gpu             | kept a=1; resume r2 a=1; dispatch r1 a#0
    """


@table()
def test_a_step_waits_for_limits_of_its_own() -> None:
    """The other steps of the run do not; each attempt of it counts, of one run or of several.

    10  | function f on=go                    | -
    10  | event go                            | began r1 f; start r1
    10  | event go                            | began r2 f; start r2
    11  | plan r1 run:a::db/1                 | planned a until 0; resume r1 a#0
    12  | plan r2 run:a::db/1 run:b::other/1  | planned a until 0; planned b until 0; resume r2 b#0
    12  | limit-of r2                         | db: 1/1, by r1, 1 waiting since 12: r2, place 1
    20  | fail r1 a retry=100                 | attempt 0 of a failed, next 120; resume r2 a#0
    120 | tick                                | -
    130 | report r2 a =1                      | kept a=1; resume r1 a#1
    140 | report r1 a =1 attempt=1            | kept a=1
    141 | report r2 b =1                      | kept b=1
    142 | rows GateState                      | 0
    """


@table()
def test_a_limit_of_a_step_with_a_period_spreads_its_attempts() -> None:
    """They pass it when they have their permits, in the order in which they asked; a run may share the limit.

    10  | function f on=go                     | -
    10  | event go                             | began r1 f; start r1
    10  | event go                             | began r2 f; start r2
    11  | plan r1 run:a::db/1;api/1/100        | planned a until 0; resume r1 a#0
    12  | plan r2 run:a::db/1;api/1/100        | planned a until 0
    12  | limit-of r2                          | db: 1/1, by r1, 1 waiting since 12: r2, place 1
    20  | function g on=call named=api:1:100   | -
    20  | event call                           | began r3 g queued
    30  | report r1 a =1                       | kept a=1
    31  | limit-of r2                          | api: 1 in 100, next 111, 2 waiting since 20: r3 r2, place 2
    111 | tick                                 | admitted r3 after 91; start r3
    211 | tick                                 | resume r2 a#0
    300 | report r2 a =1                       | kept a=1
    311 | tick                                 | -
    311 | rows GateState                       | 0
    """


@table()
def test_each_value_of_a_key_has_a_limit_of_a_step() -> None:
    """The key is evaluated for the event of the run; a limit on all steps of the function is passed as well.

    10 | function f on=go steps=2                    | -
    10 | event go {"t":"a"}                          | began r1 f; start r1
    10 | event go {"t":"a"}                          | began r2 f; start r2
    10 | event go {"t":"b"}                          | began r3 f; start r3
    11 | plan r1 run:a::db/1//event.data.t           | planned a until 0; resume r1 a#0
    11 | plan r2 run:a::db/1//event.data.t           | planned a until 0
    11 | plan r3 run:a::db/1//event.data.t           | planned a until 0
    11 | limit-of r3                                 | steps f: 2/2, by r1 r2, 1 waiting since 11: r3, place 1
    20 | report r1 a =1                              | kept a=1; resume r2 a#0; resume r3 a#0
    21 | cancel r2                                   | cancelled r2 !run-cancelled; stop r2 cancelled;
       |                                             | emit stream/function.finished#r2:finished;
       |                                             | emit stream/function.cancelled#r2:cancelled
    22 | report r3 a =1                              | kept a=1
    23 | rows GateState                              | 0
    """


@table()
def test_a_metered_limit_counts_units() -> None:
    """A body asks for as many as it is expected to use, at most for those of a period, and its result corrects that.

    The limit has one unit in 10 ms.

    10  | function f on=go                    | -
    10  | event go {"n":4}                    | began r1 f; start r1
    10  | event go {"n":"four"}               | began r2 f; start r2
    10  | plan r1 run:a::tok/10/100:event.data.n | planned a until 0; resume r1 a#0
    10  | plan r2 run:a::tok/10/100:event.data.n | planned a until 0
    10  | limit-of r2                         | tok: 10 in 100, next 50, 1 waiting since 10: r2, place 1
    20  | report r1 a =1 used=6               | kept a=1
    20  | limit-of r2                         | tok: 10 in 100, next 70, 1 waiting since 10: r2, place 1
    70  | tick                                | resume r2 a#0
    80  | plan r1 run:b::tok/10/100:50        | planned b until 0; resume r1 b#0
    80  | plan r1 run:c::tok/10/100:1         | planned c until 0
    80  | limit-of r1                         | tok: 10 in 100, next 180, 1 waiting since 80: r1, place 1
    90  | report r1 b =1 used=2               | kept b=1
    90  | limit-of r1                         | tok: 10 in 100, next 100, 1 waiting since 80: r1, place 1
    100 | tick                                | resume r1 c#0
    105 | report r1 c =1 used=1               | kept c=1
    110 | tick                                | -
    110 | rows GateState                      | 0
    """


@table()
def test_what_a_body_used_counts_when_its_limit_was_forgotten() -> None:
    """Also that of a failed attempt; it counts once, and debts of more than a period are not kept.

    10  | function f on=go                    | -
    10  | event go                            | began r1 f; start r1
    10  | plan r1 run:a::tok/10/100:1         | planned a until 0; resume r1 a#0
    20  | tick                                | -
    20  | rows GateState                      | 0
    30  | fail r1 a retry=10 used=4           | attempt 0 of a failed, next 40
    30  | fail r1 a retry=10 used=4           | -
    40  | tick                                | -
    40  | limit-of r1                         | tok: 10 in 100, next 60, 1 waiting since 40: r1, place 1
    60  | tick                                | resume r1 a#1
    70  | report r1 a =1 attempt=1 used=900   | kept a=1
    70  | plan r1 run:b::tok/10/100:1         | planned b until 0
    70  | limit-of r1                         | tok: 10 in 100, next 170, 1 waiting since 70: r1, place 1
    """
