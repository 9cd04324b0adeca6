"""Fan-outs, as record tables: the last result of a group wakes the run, and races drop their losers."""

from tests.engine.tables import table


@table()
def test_the_last_of_a_group_wakes_the_run() -> None:
    """Each result of a group is sent, but only the last one wakes a worker that does not hold the run.

    10 | function f on=go                                            | -
    10 | event go                                                    | began r1 f; start r1
    11 | plan r1 sleep:a:20@g wait:b:come:500@g signal:c:pager:500@g | planned b until 511; planned c until 511;
       |                                                             | planned a until 20
    20 | tick                                                        | kept a=null; resume r1 a=null asleep
    21 | event come e1                                               | kept b=come:e1; resume r1 b=come:e1 asleep
    22 | signal pager =1                                             | kept c=1; resume r1 c=1
    22 | rows Group                                                  | 0
    """


@table()
def test_groups_are_independent() -> None:
    """The last result of one group wakes the run, whatever is open in another.

    10 | function f on=go                               | -
    10 | event go                                       | began r1 f; start r1
    11 | plan r1 sleep:a:20@g sleep:b:30@g sleep:c:25@h | planned a until 20; planned b until 30; planned c until 25
    20 | tick                                           | kept a=null; resume r1 a=null asleep
    25 | tick                                           | kept c=null; resume r1 c=null
    30 | tick                                           | kept b=null; resume r1 b=null
    """


@table()
def test_a_group_may_grow() -> None:
    """A branch of a group that continues with another step keeps the group open until that step has its result.

    10 | function f on=go                  | -
    10 | event go                          | began r1 f; start r1
    11 | plan r1 sleep:a:20@g sleep:b:30@g | planned a until 20; planned b until 30
    20 | tick                              | kept a=null; resume r1 a=null asleep
    21 | plan r1 sleep:c:40@g              | planned c until 40
    30 | tick                              | kept b=null; resume r1 b=null asleep
    40 | tick                              | kept c=null; resume r1 c=null
    """


@table()
def test_a_step_between_attempts_belongs_to_its_group() -> None:
    """A failed body keeps its group open until its result exists; the failure itself does not wake the run.

    10 | function f on=go                    | -
    10 | event go                            | began r1 f; start r1
    11 | plan r1 sleep:a:50@g                | planned a until 50
    12 | fail r1 b attempt=0 retry=8 group=g | attempt 0 of b failed, next 20
    20 | tick                                | resume r1 b#1
    21 | fail r1 b attempt=1 retry=8 group=g | attempt 1 of b failed, next 29
    29 | tick                                | resume r1 b#2
    50 | tick                                | kept a=null; resume r1 a=null asleep
    51 | report r1 b =1 attempt=2 seen=1     | kept b=1
    51 | rows Group                          | 0
    """


@table()
def test_a_body_wakes_its_run_for_results_on_their_way() -> None:
    """It completes its group, and the other result woke no worker: one that holds the run no more does not load it.

    10 | function f on=go             | -
    10 | event go                     | began r1 f; start r1
    11 | plan r1 sleep:a:20@g         | planned a until 20
    12 | beat r1 b group=g progress=1 | attempt 0 of b runs at 1
    20 | tick                         | kept a=null; resume r1 a=null asleep
    21 | report r1 b =1 seen=0        | kept b=1; resume r1
    22 | plan r1 sleep:c:40@h         | planned c until 40
    23 | fail r1 d retry=8 group=h    | attempt 0 of d failed, next 31
    24 | beat r1 e group=h progress=1 | attempt 0 of e runs at 1
    31 | tick                         | resume r1 d#1
    40 | tick                         | kept c=null; resume r1 c=null asleep
    41 | report r1 e =1 seen=1        | kept e=1
    42 | report r1 d =1 attempt=1 seen=2 | kept d=1
    """


@table()
def test_an_error_in_a_group_wakes_at_once() -> None:
    """A failed member of a group wakes the run, because a gather raises without waiting for the rest.

    10  | function f on=go                       | -
    10  | function g                             | -
    10  | event go                               | began r1 f; start r1
    11  | plan r1 sleep:a:500@g invoke:b:g:500@g | planned a until 500; planned b until 511; began r2 g; start r2
    12  | raise r2                               | failed r2 !Oops; stop r2 failed;
        |                                        | emit stream/function.finished#r2:finished;
        |                                        | emit stream/function.failed#r2:failed; kept b!invoked-run-failed;
        |                                        | resume r1 b!invoked-run-failed
    500 | tick                                   | kept a=null; resume r1 a=null
    """


@table()
def test_a_race_drops_its_losers() -> None:
    """The losers of a race are removed everywhere, recorded in history, and stay away.

    10  | function f on=go             | -
    10  | function g                   | -
    10  | event go {"id":1}            | began r1 f; start r1
    11  | plan r1 sleep:a:20 sleep:b:500 wait:c:come:500:data.id signal:d:pager:500 |
        |                              | planned c until 511; planned d until 511; planned a until 20;
        |                              | planned b until 500
    12  | fail r1 e attempt=0 retry=50 | attempt 0 of e failed, next 62
    13  | fail r1 h attempt=0 retry=2  | attempt 0 of h failed, next 15
    15  | tick                         | resume r1 h#1
    20  | tick                         | kept a=null; resume r1 a=null
    21  | plan r1 cancel=a,b,c,d,e,h   | dropped b; dropped c; dropped d; dropped e; dropped h
    22  | rows Timer                   | 0
    22  | rows Wait                    | 0
    22  | rows SignalWaiter            | 0
    22  | rows OpenStep                | 0
    23  | event come {"id":1}          | -
    500 | tick                         | -
    501 | claim r1 c1                  | moved to epoch 2; load r1 for c1 a=null
    """


@table()
def test_a_step_awaited_alone_leaves_its_group() -> None:
    """Its result wakes the run; the others wake it when the last of them has its result.

    10 | function f on=go                               | -
    10 | event go                                       | began r1 f; start r1
    11 | plan r1 sleep:a:20@g sleep:b:30@g sleep:c:40@g | planned a until 20; planned b until 30; planned c until 40
    12 | plan r1 ungroup=a                              | -
    13 | plan r1 ungroup=a                              | -
    20 | tick                                           | kept a=null; resume r1 a=null
    30 | tick                                           | kept b=null; resume r1 b=null asleep
    40 | tick                                           | kept c=null; resume r1 c=null
    """


@table()
def test_a_body_leaves_its_group_between_attempts() -> None:
    """It may leave while its next attempt is pending; the last of the group still wakes the run.

    10 | function f on=go                    | -
    10 | event go                            | began r1 f; start r1
    11 | plan r1 sleep:a:50@g                | planned a until 50
    12 | fail r1 b attempt=0 retry=8 group=g | attempt 0 of b failed, next 20
    12 | fail r1 c attempt=0 retry=1 group=g | attempt 0 of c failed, next 13
    13 | tick                                | resume r1 c#1
    14 | plan r1 ungroup=b,c                 | -
    20 | tick                                | resume r1 b#1
    50 | tick                                | kept a=null; resume r1 a=null
    """


@table()
def test_a_step_that_leaves_its_group_too_late_wakes() -> None:
    """Its result arrived before the code awaited it alone, and woke no run then.

    10 | function f on=go                  | -
    10 | event go                          | began r1 f; start r1
    11 | plan r1 sleep:a:20@g sleep:b:30@g | planned a until 20; planned b until 30
    20 | tick                              | kept a=null; resume r1 a=null asleep
    21 | plan r1 ungroup=a                 | resume r1
    22 | plan r1 ungroup=b                 | resume r1
    22 | rows Group                        | 0
    """


@table()
def test_a_group_completed_by_a_cancellation_wakes() -> None:
    """The other result woke no run, and no further ones follow.

    10 | function f on=go                  | -
    10 | event go                          | began r1 f; start r1
    11 | plan r1 sleep:a:20@g sleep:b:30@g | planned a until 20; planned b until 30
    20 | tick                              | kept a=null; resume r1 a=null asleep
    21 | plan r1 cancel=b                  | dropped b; resume r1
    """


@table()
def test_code_that_continues_by_itself_gets_a_command() -> None:
    """A worker whose code cancelled its last open step by itself gets a command, as its successor would.

    10 | function f on=go            | -
    10 | event go                    | began r1 f; start r1
    11 | plan r1 sleep:a:500         | planned a until 500
    12 | plan r1 wake                | resume r1
    13 | plan r1 wake cancel=a       | dropped a; resume r1
    14 | plan r1 sleep:b:20 wake ack | planned b until 20; resume r1 ack
    15 | plan r1 sleep:c:30          | planned c until 30
    16 | plan r1 wake epoch=7        | -
    """


@table()
def test_a_loser_leaves_its_group() -> None:
    """A dropped step no longer counts in its group, and the last remaining one wakes the run.

    10 | function f on=go                               | -
    10 | event go                                       | began r1 f; start r1
    11 | plan r1 sleep:a:20@g sleep:b:30@g sleep:c:40@g | planned a until 20; planned b until 30; planned c until 40
    12 | plan r1 cancel=c                               | dropped c
    20 | tick                                           | kept a=null; resume r1 a=null asleep
    30 | tick                                           | kept b=null; resume r1 b=null
    """


@table()
def test_a_repeated_plan_changes_nothing() -> None:
    """A plan that arrives twice opens its steps once and counts them once in their group.

    10 | function f on=go                      | -
    10 | event go                              | began r1 f; start r1
    11 | plan r1 sleep:a:20@g sleep:b:30@g     | planned a until 20; planned b until 30
    12 | plan r1 sleep:a:20@g sleep:b:30@g ack | resume r1 ack
    20 | tick                                  | kept a=null; resume r1 a=null asleep
    30 | tick                                  | kept b=null; resume r1 b=null
    """
