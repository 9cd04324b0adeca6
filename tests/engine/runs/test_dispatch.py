"""Steps of a queue, as record tables: dispatched to its workers, claimed, retried and recalled."""

from tests.engine.tables import table


@table()
def test_a_dispatched_step_has_all_its_code_needs() -> None:
    """The workers of the queue get the earlier results; the result goes to the worker that holds the run.

    10 | function f on=go queues=gpu | -
    10 | event go e1                 | began r1 f; start r1
    11 | report r1 a =1              | kept a=1
    12 | plan r1 run:b:gpu           | planned b until 0; dispatch r1 b#0 a=1
    13 | report r1 b =2 queue=gpu    | kept b=2; resume r1 b=2
    14 | return r1 =3                | completed r1 =3; emit stream/function.finished#r1:finished
    14 | rows OpenStep               | 0
    """


@table()
def test_the_first_result_of_a_dispatched_step_is_kept() -> None:
    """The run may move while the body runs; a second result, or one of a step that is not dispatched, changes nothing.

    10 | function f on=go queues=gpu      | -
    10 | event go e1                      | began r1 f; start r1
    11 | plan r1 run:a:gpu                | planned a until 0; dispatch r1 a#0
    12 | claim r1 c1                      | moved to epoch 2; load r1 for c1 a#0
    13 | report r1 a =0 queue=cpu epoch=2 | -
    13 | report r1 b =0 queue=gpu epoch=2 | -
    14 | report r1 a =1 queue=gpu         | kept a=1; resume r1 a=1
    15 | report r1 a =2 queue=gpu         | -
    16 | fail r1 a retry=10 queue=gpu     | -
    16 | rows Timer                       | 0
    """


@table()
def test_attempts_of_a_dispatched_step() -> None:
    """A failed attempt is dispatched again at its time, once.

    10  | function f on=go queues=gpu             | -
    10  | event go e1                             | began r1 f; start r1
    11  | plan r1 run:a:gpu                       | planned a until 0; dispatch r1 a#0
    12  | fail r1 a attempt=0 retry=100 queue=gpu | attempt 0 of a failed, next 112
    13  | fail r1 a attempt=0 retry=100 queue=gpu | -
    13  | claim-step r1 a c1 queue=gpu            | stop r1 a ended
    112 | tick                                    | dispatch r1 a#1
    113 | fail r1 a attempt=0 retry=100 queue=gpu | -
    114 | report r1 a !Oops attempt=1 queue=gpu   | kept a!Oops; resume r1 a!Oops
    """


@table()
def test_a_claim_of_a_step_is_answered_by_its_state() -> None:
    """A worker that cannot know whether another ran the step asks: the step is dispatched again, or not to be run.

    From then on only its own report counts: else it would run a body that already has a result.

    10 | function f on=go queues=gpu       | -
    10 | event go e1                       | began r1 f; start r1
    11 | plan r1 run:a:gpu                 | planned a until 0; dispatch r1 a#0
    12 | claim-step r1 a c1 queue=gpu      | dispatch r1 a#0 for c1
    13 | claim-step r1 a c2 queue=cpu      | stop r1 a ended
    13 | report r1 a =0 queue=gpu          | -
    13 | fail r1 a retry=9 queue=gpu       | -
    13 | rows Timer                        | 0
    14 | report r1 a =1 queue=gpu claim=c1 | kept a=1; resume r1 a=1
    15 | claim-step r1 a c3 queue=gpu      | stop r1 a ended
    """


@table()
def test_a_step_that_is_no_longer_needed_is_recalled() -> None:
    """A step that lost a race, and one whose run is cancelled, is stopped where it runs; a late result is dropped.

    10 | function f on=go queues=gpu | -
    10 | event go e1                 | began r1 f; start r1
    11 | plan r1 run:a:gpu run:b:gpu | planned a until 0; dispatch r1 a#0; planned b until 0; dispatch r1 b#0
    12 | plan r1 cancel=a            | dropped a; stop r1 a cancelled
    13 | report r1 a =1 queue=gpu    | -
    14 | cancel r1                   | stop r1 b cancelled; cancelled r1 !run-cancelled; stop r1 cancelled;
       |                             | emit stream/function.finished#r1:finished;
       |                             | emit stream/function.cancelled#r1:cancelled
    15 | report r1 b =1 queue=gpu    | -
    15 | rows OpenStep               | 0
    """


@table()
def test_an_unknown_queue_fails_the_step() -> None:
    """No command is sent to a topic that does not exist: the step fails with an error that names the remedy.

    10 | function f on=go queues=gpu | -
    10 | event go e1                 | began r1 f; start r1
    11 | plan r1 run:a:gpq           | kept a!queue-not-found; resume r1 a!queue-not-found
    """


@table()
def test_a_fan_out_over_a_queue_wakes_its_run_once() -> None:
    """Dispatched steps of a group wake the run with the last result, or with the first error.

    10 | function f on=go queues=gpu     | -
    10 | event go e1                     | began r1 f; start r1
    11 | plan r1 run:a:gpu@g run:b:gpu@g | planned a until 0; dispatch r1 a#0; planned b until 0; dispatch r1 b#0
    12 | report r1 b =2 queue=gpu        | kept b=2; resume r1 b=2 asleep
    13 | report r1 a =1 queue=gpu        | kept a=1; resume r1 a=1
    """
