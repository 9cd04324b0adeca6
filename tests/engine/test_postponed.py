"""Runs and steps at a worker without their code, as record tables: they wait, and lose no attempt."""

from tests.engine.tables import table


@table()
def test_a_run_without_its_code_is_retried_without_limit() -> None:
    """It is warned once, a claim meanwhile must wait, and the attempts of the code stay as they were.

    10  | function f on=go                    | -
    10  | event go e1                         | began r1 f; start r1
    11  | raise r1 retry=10                   | attempt 0 failed, next 21
    21  | tick                                | resume r1
    22  | claim r1 c1                         | moved to epoch 2; load r1 for c1
    23  | postpone r1 epoch=2 for=100         | warned no code
    24  | postpone r1 epoch=2 for=100         | -
    25  | claim r1 c2                         | stop r1 waiting
    123 | tick                                | resume r1
    124 | claim r1 c3                         | moved to epoch 3; load r1 for c3
    125 | postpone r1 epoch=3 for=100         | -
    225 | tick                                | resume r1
    226 | raise r1 epoch=3 attempt=1 retry=10 | attempt 1 failed, next 236
    236 | tick                                | resume r1
    237 | return r1 epoch=3 =1                | completed r1 =1 warned no code;
        |                                     | emit stream/function.finished#r1:finished
    238 | rows Timer                          | 0
    """


@table()
def test_results_arrive_while_a_run_waits_for_its_code() -> None:
    """Results and the ends of its waits are kept; a worker that lost the run postpones nothing.

    10 | function f on=go            | -
    10 | event go e1                 | began r1 f; start r1
    11 | plan r1 sleep:a:50          | planned a until 50
    12 | postpone r1 epoch=2 for=100 | -
    12 | postpone r1 for=100         | warned no code
    50 | tick                        | kept a=null; resume r1 a=null
    51 | return r1 =1                | completed r1 =1 warned no code; emit stream/function.finished#r1:finished
    52 | rows Timer                  | 0
    """


@table()
def test_a_dispatched_step_without_its_code_is_retried() -> None:
    """It is the same attempt. The claim of the worker that returned it stays: reports of earlier workers do not count.

    10  | function f on=go queues=gpu                   | -
    10  | event go e1                                   | began r1 f; start r1
    11  | plan r1 run:a:gpu                             | planned a until 0; dispatch r1 a#0
    12  | claim-step r1 a c1 queue=gpu                  | dispatch r1 a#0 for c1
    13  | postpone-step r1 a queue=gpu for=100          | -
    14  | postpone-step r1 a queue=gpu claim=c1 for=100 | warned no code
    15  | postpone-step r1 a queue=gpu claim=c1 for=100 | -
    16  | report r1 a =1 queue=gpu                      | -
    17  | claim-step r1 a c2 queue=gpu                  | stop r1 a ended
    114 | tick                                          | dispatch r1 a#0 for c1
    115 | claim-step r1 a c3 queue=gpu                  | dispatch r1 a#0 for c3
    116 | report r1 a =2 queue=gpu claim=c3             | kept a=2; resume r1 a=2
    """


@table()
def test_a_step_and_its_run_may_both_wait_for_code() -> None:
    """The code between steps failed, and a worker of the queue has no code for the step.

    10  | function f on=go queues=gpu          | -
    10  | event go e1                          | began r1 f; start r1
    11  | plan r1 run:a:gpu                    | planned a until 0; dispatch r1 a#0
    12  | raise r1 retry=200                   | attempt 0 failed, next 212
    13  | postpone-step r1 a queue=gpu for=100 | warned no code
    113 | tick                                 | dispatch r1 a#0
    114 | report r1 a =2 queue=gpu             | kept a=2; resume r1 a=2
    212 | tick                                 | resume r1
    """
