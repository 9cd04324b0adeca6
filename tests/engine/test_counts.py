"""What the engine counts: open runs and steps."""

from tests.engine.tables import table


@table()
def test_open_runs_and_steps_are_counted_up_and_down() -> None:
    """Opening counts up, closing counts down, and the end of a run closes all its steps.

    10 | function f on=go                              | -
    10 | event go                                      | began r1 f; start r1
    11 | count open_runs f                             | 1
    11 | plan r1 sleep:a:90 sleep:b:50 signal:c:ok:100 | planned c until 111; planned a until 90; planned b until 50
    12 | count open_steps sleep                        | 2
    12 | count open_steps signal                       | 1
    13 | plan r1 cancel=b                              | dropped b
    14 | count open_steps sleep                        | 1
    15 | cancel r1                                     | cancelled r1 !run-cancelled; stop r1 cancelled;
       |                                               | emit stream/function.finished#r1:finished;
       |                                               | emit stream/function.cancelled#r1:cancelled
    16 | count open_steps sleep                        | 0
    16 | count open_steps signal                       | 0
    16 | count open_runs f                             | 0
    16 | count runs_ended f cancelled                  | 1
    """


@table()
def test_a_step_that_changes_its_kind_is_open_once() -> None:
    """After a change of the code a former sleep may fail as a body: it is counted as a body only.

    10 | function f on=go              | -
    10 | event go                      | began r1 f; start r1
    11 | plan r1 sleep:a:90            | planned a until 90
    12 | fail r1 a attempt=0 retry=10  | attempt 0 of a failed, next 22
    13 | count open_steps sleep        | 0
    13 | count open_steps run          | 1
    22 | tick                          | resume r1 a#1
    22 | count open_steps run          | 1
    23 | fail r1 a attempt=1 retry=10  | attempt 1 of a failed, next 33
    23 | count open_steps run          | 1
    34 | report r1 a =1 attempt=2      | kept a=1
    34 | count open_steps run          | 0
    34 | count step_retries f          | 2
    34 | count steps_ended f run value | 1
    """
