"""Heartbeats of bodies, as record tables: their progress is durable, and the next attempt gets it."""

from stepstream.contract.limits import Limits
from tests.engine.tables import table


@table()
def test_a_body_that_runs_again_gets_its_last_progress() -> None:
    """The worker died in the first attempt of a step of which the engine had no row; this is not another attempt.

    A report that arrives again changes nothing, and a heartbeat without progress leaves the one before.

    10 | function f on=go                     | -
    10 | event go e1                          | began r1 f; start r1
    11 | beat r1 a progress=40                | attempt 0 of a runs at 40
    12 | beat r1 a progress=80                | attempt 0 of a runs at 80
    12 | beat r1 a progress=80                | -
    13 | beat r1 a sent=13                    | attempt 0 of a runs at 80
    14 | claim r1 c1                          | moved to epoch 2; load r1 for c1 a#0! at 80
    15 | beat r1 a progress=90                | -
    16 | report r1 a =1 epoch=2               | kept a=1
    17 | beat r1 a epoch=2 progress=100       | -
    18 | return r1 =1 epoch=2                 | completed r1 =1; emit stream/function.finished#r1:finished
    18 | rows OpenStep                        | 0
    """


@table()
def test_the_next_attempt_gets_the_progress_of_the_failed_one() -> None:
    """The report of the failed attempt has the newest; a heartbeat that arrives after it is stale.

    10 | function f on=go                     | -
    10 | event go e1                          | began r1 f; start r1
    11 | beat r1 a progress=40                | attempt 0 of a runs at 40
    12 | fail r1 a retry=10 progress=50       | attempt 0 of a failed, next 22 at 50
    13 | beat r1 a progress=45                | -
    22 | tick                                 | resume r1 a#1 at 50
    23 | fail r1 a attempt=1 retry=10         | attempt 1 of a failed, next 33 at 50
    24 | fail r1 b retry=100 progress=1       | attempt 0 of b failed, next 124 at 1
    33 | tick                                 | resume r1 a#2 at 50
    34 | beat r1 a attempt=1 progress=60      | -
    35 | beat r1 a attempt=2 progress=70      | attempt 2 of a runs at 70
    36 | report r1 a =1 attempt=2             | kept a=1
    """


@table()
def test_a_heartbeat_of_a_dispatched_body_needs_the_claim_that_counts() -> None:
    """A worker from which the step was taken may run on for a while, and its progress would be older.

    10 | function f on=go queues=gpu                    | -
    10 | event go e1                                    | began r1 f; start r1
    11 | plan r1 run:a:gpu                              | planned a until 0; dispatch r1 a#0
    12 | beat r1 a queue=gpu progress=40                | attempt 0 of a runs at 40
    13 | claim-step r1 a c1 queue=gpu                   | dispatch r1 a#0 for c1 at 40
    14 | beat r1 a queue=gpu progress=50                | -
    15 | beat r1 a queue=gpu claim=c1 progress=60       | attempt 0 of a runs at 60
    16 | lost app.gpu                                   | dispatch r1 a#0 partial
    17 | fail r1 a queue=gpu claim=c1 retry=10          | attempt 0 of a failed, next 27 at 60
    18 | beat r1 a queue=gpu claim=c1 progress=70       | -
    27 | tick                                           | dispatch r1 a#1 at 60
    28 | report r1 a =1 queue=gpu attempt=1             | kept a=1; resume r1 a=1
    29 | beat r1 a queue=gpu attempt=1                  | -
    """


@table()
def test_a_heartbeat_of_a_step_that_does_not_run_is_ignored() -> None:
    """The code may have changed, so that a body is now a sleep; and a queue that is paused keeps its steps.

    10 | function f on=go queues=gpu                    | -
    10 | event go e1                                    | began r1 f; start r1
    11 | plan r1 sleep:a:500 run:b:gpu                  | planned a until 500; planned b until 0; dispatch r1 b#0
    12 | beat r1 a progress=1                           | -
    12 | beat r1 b progress=1                           | -
    13 | pause-scope queue:app.gpu                      | -
    14 | claim-step r1 b c1 queue=gpu                   | stop r1 b paused
    15 | beat r1 b queue=gpu claim=c1 progress=1        | -
    16 | beat r1 c attempt=1 progress=1                 | -
    """


@table()
def test_a_body_that_sent_a_heartbeat_counts_in_its_group() -> None:
    """The other step of the fan-out does not wake the run alone, and a step that lost a race leaves no row.

    10 | function f on=go                     | -
    10 | event go e1                          | began r1 f; start r1
    11 | plan r1 sleep:s:500@g                | planned s until 500
    12 | beat r1 a group=g progress=1         | attempt 0 of a runs at 1
    13 | beat r1 b progress=1                 | attempt 0 of b runs at 1
    14 | plan r1 cancel=b                     | dropped b
    500 | tick                                | kept s=null; resume r1 s=null asleep
    501 | report r1 a =1 seen=1               | kept a=1
    501 | rows OpenStep                       | 0
    501 | rows Group                          | 0
    """


@table(Limits(steps_per_run_max=2))
def test_a_run_takes_heartbeats_in_any_state() -> None:
    """Its bodies run on while it is paused, and while the code between other steps is tried again.

    10 | function f on=go                | -
    10 | event go e1                     | began r1 f; start r1
    11 | beat r1 a progress=1            | attempt 0 of a runs at 1
    12 | pause r1                        | paused by ann until 0; reload r1
    13 | beat r1 a progress=2            | attempt 0 of a runs at 2
    14 | unpause r1                      | unpaused by ann; reload r1
    15 | raise r1 retry=10               | attempt 0 failed, next 25
    16 | beat r1 a progress=3            | attempt 0 of a runs at 3
    25 | tick                            | resume r1
    26 | report r1 a =1                  | kept a=1
    """


@table(Limits(steps_per_run_max=1))
def test_a_heartbeat_of_a_step_beyond_the_limit_ends_the_run() -> None:
    """The first heartbeat opens a step, which counts, in whatever state the run is.

    10 | function f on=go                | -
    10 | event go e1                     | began r1 f; start r1
    10 | event go e2                     | began r2 f; start r2
    10 | event go e3                     | began r3 f; start r3
    11 | report r1 a =1                  | kept a=1
    11 | report r2 a =1                  | kept a=1
    11 | report r3 a =1                  | kept a=1
    12 | pause r2                        | paused by ann until 0; reload r2
    12 | raise r3 retry=10               | attempt 0 failed, next 22
    13 | beat r1 b progress=1            | failed r1 !step-limit; stop r1 failed;
       |                                 | emit stream/function.finished#r1:finished;
       |                                 | emit stream/function.failed#r1:failed
    13 | beat r2 b progress=1            | failed r2 !step-limit; stop r2 failed;
       |                                 | emit stream/function.finished#r2:finished;
       |                                 | emit stream/function.failed#r2:failed
    13 | beat r3 b progress=1            | failed r3 !step-limit; stop r3 failed;
       |                                 | emit stream/function.finished#r3:finished;
       |                                 | emit stream/function.failed#r3:failed
    """
