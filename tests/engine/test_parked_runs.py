"""What happens to a run that has returned its permit of a limit on work, or waits for it again."""

from stepstream.contract.limits import Limits
from tests.engine.tables import table


@table()
def test_a_body_in_a_queue_holds_no_permit_of_its_run() -> None:
    """Its run is parked meanwhile; the result wakes it, and a failure, a heartbeat or a postponement does not.

    10 | function f on=go work=1 queues=slow           | -
    10 | event go                                      | began r1 f queued; admitted r1 after 0;
       |                                               | start r1 reports-parked
    10 | event go                                      | began r2 f queued
    11 | plan r1 run:a:slow                            | planned a until 0; dispatch r1 a#0
    12 | park r1                                       | admitted r2 after 2; start r2 reports-parked
    13 | beat r1 a sent=13 progress=1 queue=slow       | attempt 0 of a runs at 1
    14 | fail r1 a retry=10 queue=slow                 | attempt 0 of a failed, next 24 at 1
    24 | tick                                          | dispatch r1 a#1 at 1
    25 | postpone-step r1 a attempt=1 queue=slow for=5 | warned no code
    30 | tick                                          | dispatch r1 a#1 at 1
    31 | report r1 a =1 attempt=1 queue=slow           | kept a=1; woken r1
    32 | limit-of r1                                   | work f: 1/1, by r2, 1 waiting since 31: r1, place 1
    """


@table()
def test_bodies_in_queues_continue_while_their_run_waits_for_its_permit() -> None:
    """What they report changes nothing else.

    10 | function f on=go work=1 queues=slow        | -
    10 | event go                                   | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    10 | event go                                   | began r2 f queued
    11 | plan r1 sleep:nap:15 run:a:slow run:b:slow | planned nap until 15; planned a until 0; dispatch r1 a#0;
       |                                            | planned b until 0; dispatch r1 b#0
    12 | park r1                                    | admitted r2 after 2; start r2 reports-parked
    15 | tick                                       | kept nap=null; woken r1
    16 | beat r1 a sent=16 progress=1 queue=slow    | attempt 0 of a runs at 1
    17 | fail r1 a retry=10 queue=slow              | attempt 0 of a failed, next 27 at 1
    18 | postpone-step r1 b queue=slow for=4        | warned no code
    22 | tick                                       | dispatch r1 b#0 nap=null
    27 | tick                                       | dispatch r1 a#1 nap=null at 1
    28 | report r1 a =1 attempt=1 queue=slow        | kept a=1
    29 | return r2 =1                               | completed r2 =1; emit stream/function.finished#r2:finished;
       |                                            | admitted r1 after 14; resume r1 #1
    """


@table()
def test_the_results_of_a_group_of_bodies_in_a_queue_wake_a_run_once() -> None:
    """Only the last one asks for the permit.

    10 | function f on=go work=1 queues=slow | -
    10 | event go                            | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    11 | plan r1 run:a:slow@g run:b:slow@g   | planned a until 0; dispatch r1 a#0; planned b until 0; dispatch r1 b#0
    12 | park r1                             | -
    13 | report r1 a =1 queue=slow           | kept a=1
    14 | report r1 b =1 queue=slow           | kept b=1; woken r1; admitted r1 after 0; resume r1 #1
    """


@table()
def test_events_end_waits_of_a_parked_run() -> None:
    """Those of several events, of a group with a signal, and with a look-back that is cut off.

    10 | function f on=go work=1                        | -
    10 | event go                                       | began r1 f queued; admitted r1 after 0;
       |                                                | start r1 reports-parked
    10 | event go                                       | began r2 f queued
    11 | plan r1 wait:a:x:90@g wait:b:y:90@g            | planned a until 101; planned b until 101
    11 | plan r1 all:c:90:one.z1;two.z2 signal:s:pager:90@g | planned c until 101 all of: one,two; planned s until 101
    12 | park r1                                        | admitted r2 after 2; start r2 reports-parked
    13 | event x                                        | kept a=x:p7
    13 | signal pager                                   | kept s={}
    14 | event z1                                       | planned c until 101 all of: two
    15 | truncated r1 c z1                              | warned step 'c' looked back at only the newest 200 of the
       |                                                | kept events 'z1': use match= or an equality in if_=, by
       |                                                | which the engine finds those that match
    16 | event y                                        | kept b=y:p11; woken r1
    17 | event z2                                       | kept c=one:p9,two:p12
    18 | truncated r1 c z1                              | -
    """


@table()
def test_an_event_ends_a_wait_of_a_run_that_waits_for_its_permit() -> None:
    """So does a result, of a signal for example.

    10 | function f on=go work=1                        | -
    10 | event go                                       | began r1 f queued; admitted r1 after 0;
       |                                                | start r1 reports-parked
    10 | event go                                       | began r2 f queued
    11 | plan r1 wait:a:x:90 wait:b:y:90                | planned a until 101; planned b until 101
    11 | plan r1 signal:s:pager:90 all:c:90:one.z1;two.z2 | planned s until 101; planned c until 101 all of: one,two
    12 | park r1                                        | admitted r2 after 2; start r2 reports-parked
    13 | event x                                        | kept a=x:p7; woken r1
    14 | event y                                        | kept b=y:p8
    15 | signal pager                                   | kept s={}
    16 | event z1                                       | planned c until 101 all of: two
    17 | truncated r1 c z1                              | warned step 'c' looked back at only the newest 200 of the
       |                                                | kept events 'z1': use match= or an equality in if_=, by
       |                                                | which the engine finds those that match
    """


@table()
def test_a_grant_of_a_body_wakes_its_run() -> None:
    """The limit on bodies is independent: its permit is held while the run waits for its own.

    10 | function f on=go work=2 steps=1 | -
    10 | event go                        | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    10 | event go                        | began r2 f queued; admitted r2 after 0; start r2 reports-parked
    10 | event go                        | began r3 f queued
    11 | plan r1 run:a                   | planned a until 0; resume r1 #1 a#0
    12 | claim r1 w1                     | moved to epoch 2; load r1 for w1 a#0! reports-parked
    14 | plan r2 run:a                   | planned a until 0
    15 | park r2                         | admitted r3 after 5; start r3 reports-parked
    16 | report r1 a =1 epoch=2          | kept a=1; woken r2
    17 | limit-of r2                     | work f: 2/2, by r1 r3, 1 waiting since 16: r2, place 1
    17 | return r1 =1 epoch=2            | completed r1 =1; emit stream/function.finished#r1:finished;
       |                                 | admitted r2 after 1; resume r2 #1
    18 | claim r2 w2                     | moved to epoch 2; load r2 for w2 a#0! reports-parked
    """


@table()
def test_a_grant_of_a_body_of_a_paused_function_wakes_no_run() -> None:
    """The run asks when the function is resumed.

    10 | function f on=go work=2 steps=1 | -
    10 | event go                        | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    10 | event go                        | began r2 f queued; admitted r2 after 0; start r2 reports-parked
    11 | plan r1 run:a                   | planned a until 0; resume r1 #1 a#0
    11 | claim r1 w1                     | moved to epoch 2; load r1 for w1 a#0! reports-parked
    12 | plan r2 run:a                   | planned a until 0
    13 | park r2                         | -
    14 | pause-scope function:f          | -
    15 | report r1 a =1 epoch=2          | kept a=1
    16 | resume-scope function:f         | woken r2; admitted r2 after 0; resume r2 #1
    """


@table()
def test_a_singleton_replaces_a_run_that_is_parked_or_waits() -> None:
    """Neither leaves a place in the queue of its limit on work.

    10 | function f on=go work=1 singleton=cancel:event.data.k | -
    10 | event go {"k":1}                               | began r1 f queued; admitted r1 after 0;
       |                                                | start r1 reports-parked
    10 | event go {"k":2}                               | began r2 f queued
    11 | plan r1 sleep:nap:90                           | planned nap until 90
    12 | park r1                                        | admitted r2 after 2; start r2 reports-parked
    13 | event go {"k":1}                               | began r3 f queued; cancelled r1 !run-cancelled;
       |                                                | stop r1 cancelled;
       |                                                | emit stream/function.finished#r1:finished;
       |                                                | emit stream/function.cancelled#r1:cancelled
    14 | return r2 =1                                   | completed r2 =1; emit stream/function.finished#r2:finished;
       |                                                | admitted r3 after 1; start r3 reports-parked
    15 | plan r3 sleep:nap:40                           | planned nap until 40
    16 | park r3                                        | -
    17 | event go {"k":3}                               | began r4 f queued; admitted r4 after 0;
       |                                                | start r4 reports-parked
    40 | tick                                           | kept nap=null; woken r3
    41 | event go {"k":1}                               | began r5 f queued; cancelled r3 !run-cancelled;
       |                                                | stop r3 cancelled;
       |                                                | emit stream/function.finished#r3:finished;
       |                                                | emit stream/function.cancelled#r3:cancelled
    42 | return r4 =1                                   | completed r4 =1; emit stream/function.finished#r4:finished;
       |                                                | admitted r5 after 1; start r5 reports-parked
    """


@table()
def test_a_run_with_several_limits_on_work_waits_for_one_after_the_other() -> None:
    """It keeps the first while it waits for the second, and returns both when the function is paused.

    10 | function f on=go work=1:event.data.t;1::all | -
    10 | function g on=too work=1::all               | -
    10 | event go {"t":"a"}                          | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    10 | event too                                   | began r2 g queued
    11 | plan r1 sleep:nap:20                        | planned nap until 20
    12 | park r1                                     | admitted r2 after 2; start r2 reports-parked
    20 | tick                                        | kept nap=null; woken r1
    21 | limit-of r1                                 | all: 1/1, by r2, 1 waiting since 20: r1, place 1
    22 | event go {"t":"a"}                          | began r3 f queued
    23 | pause-scope function:f                      | -
    24 | return r2 =1                                | completed r2 =1; emit stream/function.finished#r2:finished
    25 | rows GateRun                                | 0
    26 | resume-scope function:f                     | woken r1; woken r3; admitted r1 after 0; resume r1 #1
    """


@table(Limits(run_memo_bytes_max=20))
def test_a_parked_run_that_outgrows_its_limits_ends() -> None:
    """By a result that arrives while it is parked.

    10 | function f on=go work=9 queues=slow            | -
    10 | event go                                       | began r1 f queued; admitted r1 after 0;
       |                                                | start r1 reports-parked
    10 | event go                                       | began r2 f queued; admitted r2 after 0;
       |                                                | start r2 reports-parked
    10 | event go                                       | began r3 f queued; admitted r3 after 0;
       |                                                | start r3 reports-parked
    10 | event go                                       | began r4 f queued; admitted r4 after 0;
       |                                                | start r4 reports-parked
    11 | plan r1 wait:a:x:90                            | planned a until 101
    11 | plan r2 signal:s:pager:90                      | planned s until 101
    11 | plan r3 run:a:slow                             | planned a until 0; dispatch r3 a#0
    11 | report r4 b ="0123456789123456"                | kept b="0123456789123456"
    11 | plan r4 sleep:nap:50                           | planned nap until 50
    12 | park r1                                        | -
    12 | park r2                                        | -
    12 | park r3                                        | -
    12 | park r4                                        | -
    13 | event x {"a":"012345678901234567890"}          | failed r1 !run-state-limit; stop r1 failed;
       |                                                | emit stream/function.finished#r1:finished;
       |                                                | emit stream/function.failed#r1:failed
    14 | signal pager ="012345678901234567890"          | failed r2 !run-state-limit; stop r2 failed;
       |                                                | emit stream/function.finished#r2:finished;
       |                                                | emit stream/function.failed#r2:failed
    15 | report r3 a ="012345678901234567890" queue=slow | stop r3 a failed; failed r3 !run-state-limit;
       |                                                | stop r3 failed; emit stream/function.finished#r3:finished;
       |                                                | emit stream/function.failed#r3:failed
    50 | tick                                           | failed r4 !run-state-limit; stop r4 failed;
       |                                                | emit stream/function.finished#r4:finished;
       |                                                | emit stream/function.failed#r4:failed
    """


@table(Limits(run_memo_bytes_max=20))
def test_a_run_that_outgrows_its_limits_while_it_waits_ends() -> None:
    """It leaves the queue.

    10 | function f on=go work=1::one queues=slow       | -
    10 | function g on=other work=1::one                | -
    10 | event go                                       | began r1 f queued; admitted r1 after 0;
       |                                                | start r1 reports-parked
    10 | event go                                       | began r2 f queued
    10 | event go                                       | began r3 f queued
    11 | plan r1 sleep:nap:20 wait:a:x:90               | planned a until 101; planned nap until 20
    12 | park r1                                        | admitted r2 after 2; start r2 reports-parked
    13 | plan r2 sleep:nap:20 signal:s:pager:90         | planned s until 103; planned nap until 20
    14 | park r2                                        | admitted r3 after 4; start r3 reports-parked
    15 | plan r3 sleep:nap:20 run:a:slow                | planned nap until 20; planned a until 0; dispatch r3 a#0
    16 | event other                                    | began r4 g queued
    17 | park r3                                        | admitted r4 after 1; start r4 reports-parked
    20 | tick                                           | kept nap=null; woken r2; kept nap=null; woken r1;
       |                                                | kept nap=null; woken r3
    21 | event x {"a":"012345678901234567890"}          | failed r1 !run-state-limit; stop r1 failed;
       |                                                | emit stream/function.finished#r1:finished;
       |                                                | emit stream/function.failed#r1:failed
    22 | signal pager ="012345678901234567890"          | failed r2 !run-state-limit; stop r2 failed;
       |                                                | emit stream/function.finished#r2:finished;
       |                                                | emit stream/function.failed#r2:failed
    23 | report r3 a ="012345678901234567890" queue=slow | stop r3 a failed; failed r3 !run-state-limit;
       |                                                | stop r3 failed; emit stream/function.finished#r3:finished;
       |                                                | emit stream/function.failed#r3:failed
    24 | rows GateWaiter                                | 0
    """


@table()
def test_a_parked_run_that_exceeds_its_time_is_cancelled() -> None:
    """No body of it can be running; nor can one when its code waits after that time.

    10  | function f on=go work=3 start=50 finish=100 | -
    10  | event go                                    | began r1 f by 60 queued; admitted r1 after 0;
        |                                             | start r1 announced reports-parked
    10  | event go                                    | began r2 f by 60 queued; admitted r2 after 0;
        |                                             | start r2 announced reports-parked
    10  | event go                                    | began r3 f by 60 queued; admitted r3 after 0;
        |                                             | start r3 announced reports-parked
    10  | event go                                    | began r4 f by 60 queued
    11  | execute r1                                  | executes until 111
    11  | execute r2                                  | executes until 111
    11  | execute r3                                  | executes until 111
    12  | plan r1 sleep:nap:500                       | planned nap until 500
    12  | plan r2 sleep:nap:30                        | planned nap until 30
    13  | park r1                                     | admitted r4 after 3; start r4 announced reports-parked
    14  | park r2                                     | -
    30  | tick                                        | kept nap=null; woken r2; admitted r2 after 0; resume r2 #1
    60  | tick                                        | cancelled r4 !run-cancelled; stop r4 cancelled;
        |                                             | emit stream/function.finished#r4:finished;
        |                                             | emit stream/function.cancelled#r4:cancelled
    100 | pause r3                                    | paused by ann until 0; reload r3
    111 | tick                                        | cancelled r1 !run-cancelled; stop r1 cancelled;
        |                                             | emit stream/function.finished#r1:finished;
        |                                             | emit stream/function.cancelled#r1:cancelled;
        |                                             | expired until 600111; reload r3 expired; expired until 600111;
        |                                             | reload r2 expired
    112 | park r3                                     | cancelled r3 !run-cancelled; stop r3 cancelled;
        |                                             | emit stream/function.finished#r3:finished;
        |                                             | emit stream/function.cancelled#r3:cancelled
    """


@table()
def test_a_run_that_waits_again_when_its_time_has_passed_is_cancelled() -> None:
    """Its time counts while it waits.

    10  | function f on=go work=1 finish=100 | -
    10  | function g on=go work=1::work_f    | -
    10  | event go                           | began r1 f queued; began r2 g queued; admitted r1 after 0;
        |                                    | start r1 announced reports-parked
    11  | execute r1                         | executes until 111
    12  | plan r1 sleep:nap:30               | planned nap until 30
    13  | park r1                            | admitted r2 after 3; start r2 reports-parked
    30  | tick                               | kept nap=null; woken r1
    111 | tick                               | cancelled r1 !run-cancelled; stop r1 cancelled;
        |                                    | emit stream/function.finished#r1:finished;
        |                                    | emit stream/function.cancelled#r1:cancelled
    112 | rows GateWaiter                    | 0
    """


@table()
def test_the_report_of_a_run_that_has_exceeded_its_time_cancels_it() -> None:
    """Its worker would claim it next.

    10  | function f on=go work=1 finish=100 | -
    10  | event go                           | began r1 f queued; admitted r1 after 0;
        |                                    | start r1 announced reports-parked
    11  | execute r1                         | executes until 111
    12  | plan r1 sleep:nap:500              | planned nap until 500
    111 | tick                               | expired until 600111; reload r1 expired
    112 | park r1                            | cancelled r1 !run-cancelled; stop r1 cancelled;
        |                                    | emit stream/function.finished#r1:finished;
        |                                    | emit stream/function.cancelled#r1:cancelled
    """
