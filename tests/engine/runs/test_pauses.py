"""Pauses of single runs, as record tables: what happens meanwhile is kept, and continues once."""

from stepstream.contract.limits import Limits
from tests.engine.tables import table


@table()
def test_a_paused_run_keeps_results_and_gets_no_command() -> None:
    """Its worker lets its bodies end. Claims are refused; the first one after the pause gets all that happened.

    10 | function f on=go                      | -
    10 | event go e1                           | began r1 f; start r1
    11 | pause r1 reply=R                      | paused by ann until 0; reload r1; reply R paused
    12 | report r1 a =1                        | kept a=1
    13 | plan r1 sleep:b:20 signal:s:paid:1000 | planned s until 1013; planned b until 20
    13 | plan r1 send:c:sent ack wake          | kept c=["r1:c:0"]; emit sent#r1:c:0
    14 | claim r1 c1                           | stop r1 paused
    15 | signal paid ="x" reply=S              | reply S delivered r1; kept s="x"
    20 | tick                                  | kept b=null
    21 | lost app                              | -
    22 | warn r1 changed                       | warned changed
    22 | set r1 {"a":1}                        | attributes {"a":1}
    23 | unpause r1 by=bob reply=R             | unpaused by bob; reload r1; reply R unpaused
    24 | claim r1 c2                           | moved to epoch 2; load r1 for c2 a=1 c=["r1:c:0"] s="x" b=null
    25 | return r1 =1 epoch=2                  | completed r1 =1 warned changed;
       |                                       | emit stream/function.finished#r1:finished
    26 | rows Timer                            | 0
    """


@table()
def test_a_pause_ends_when_its_time_has_come() -> None:
    """A pause may be changed; a request that changes nothing is only answered, and what is not paused is not resumed.

    10 | function f on=go                | -
    10 | pause none reply=A              | reply A not_found
    10 | unpause none reply=B            | reply B not_found
    10 | event go e1                     | began r1 f; start r1
    11 | unpause r1 reply=C              | reply C not_paused
    12 | pause r1 until=50 reply=D       | paused by ann until 50; reload r1; reply D paused
    13 | pause r1 until=50 reply=E       | reply E paused
    14 | pause r1 until=30 by=bob        | paused by bob until 30
    30 | tick                            | unpaused by time; reload r1
    31 | rows Timer                      | 0
    32 | pause r1 until=60               | paused by ann until 60; reload r1
    33 | unpause r1                      | unpaused by ann; reload r1
    34 | rows Timer                      | 0
    """


@table()
def test_a_run_may_end_while_it_is_paused() -> None:
    """Its code was at its end already, or it is cancelled; nothing of the pause is left.

    10 | function f on=go     | -
    10 | event go e1          | began r1 f; start r1
    10 | event go e2          | began r2 f; start r2
    10 | event go e3          | began r3 f; start r3
    11 | pause r1 until=50    | paused by ann until 50; reload r1
    11 | pause r2 until=50    | paused by ann until 50; reload r2
    11 | pause r3 until=50    | paused by ann until 50; reload r3
    12 | return r1 =1         | completed r1 =1; emit stream/function.finished#r1:finished
    13 | cancel r2            | cancelled r2 !run-cancelled; stop r2 cancelled;
       |                      | emit stream/function.finished#r2:finished;
       |                      | emit stream/function.cancelled#r2:cancelled
    14 | raise r3             | failed r3 !Oops; stop r3 failed; emit stream/function.finished#r3:finished;
       |                      | emit stream/function.failed#r3:failed
    15 | unpause r1 reply=R   | reply R not_found
    50 | tick                 | -
    51 | rows Timer           | 0
    """


@table()
def test_a_scheduled_run_that_is_paused_starts_afterwards() -> None:
    """Its time may come during the pause or after it. Its worker claims it, as it is not at its beginning.

    10 | function f on=go       | -
    10 | event go e1 ts=20      | began r1 f for 20
    10 | event go e2 ts=40      | began r2 f for 40
    11 | pause r1               | paused by ann until 0
    11 | pause r2               | paused by ann until 0
    20 | tick                   | -
    30 | unpause r1             | unpaused by ann
    30 | unpause r2             | unpaused by ann
    30 | tick                   | resume r1
    31 | claim r1 c1            | moved to epoch 2; load r1 for c1
    40 | tick                   | resume r2
    41 | rows Timer             | 0
    """


@table()
def test_attempts_that_are_due_during_a_pause_follow_it() -> None:
    """Attempts of a step, and of the code between steps; each once.

    10  | function f on=go              | -
    10  | event go e1                   | began r1 f; start r1
    11  | fail r1 a retry=10            | attempt 0 of a failed, next 21
    12  | pause r1                      | paused by ann until 0; reload r1
    13  | fail r1 b retry=10            | attempt 0 of b failed, next 23
    21  | tick                          | -
    23  | tick                          | -
    24  | unpause r1                    | unpaused by ann; reload r1
    24  | tick                          | -
    25  | claim r1 c1                   | moved to epoch 2; load r1 for c1 a#1! b#1!
    26  | pause r1                      | paused by ann until 0; reload r1
    27  | raise r1 epoch=2 retry=10     | attempt 0 failed, next 37
    27  | pause r1 until=50             | paused by ann until 50
    37  | tick                          | -
    38  | claim r1 c2                   | stop r1 waiting
    50  | tick                          | unpaused by time
    50  | tick                          | resume r1
    51  | claim r1 c3                   | moved to epoch 3; load r1 for c3 a#1! b#1!
    52  | raise r1 epoch=3 attempt=1 retry=100 | attempt 1 failed, next 152
    53  | pause r1                      | paused by ann until 0
    54  | unpause r1                    | unpaused by ann
    152 | tick                          | resume r1
    152 | tick                          | -
    """


@table()
def test_a_worker_without_the_code_postpones_a_paused_run() -> None:
    """The delay may end before or after the pause.

    10  | function f on=go        | -
    10  | event go e1             | began r1 f; start r1
    11  | pause r1                | paused by ann until 0; reload r1
    12  | postpone r1 for=100     | warned no code
    50  | unpause r1              | unpaused by ann
    112 | tick                    | resume r1
    """


@table()
def test_steps_of_a_queue_are_dispatched_after_a_pause() -> None:
    """A body that runs may end. One that is planned, claimed or due during the pause is dispatched after it, once.

    10  | function f on=go queues=gpu             | -
    10  | event go e1                             | began r1 f; start r1
    11  | plan r1 run:a:gpu run:b:gpu run:c:gpu   | planned a until 0; dispatch r1 a#0;
        |                                         | planned b until 0; dispatch r1 b#0;
        |                                         | planned c until 0; dispatch r1 c#0
    12  | pause r1                                | paused by ann until 0; reload r1
    13  | report r1 a =1 queue=gpu                | kept a=1
    14  | fail r1 b queue=gpu retry=10            | attempt 0 of b failed, next 24
    15  | plan r1 run:d:gpu                       | planned d until 15
    15  | tick                                    | -
    16  | claim-step r1 c k1 queue=gpu            | stop r1 c paused
    17  | claim-step r1 c k2 queue=gpu            | stop r1 c ended
    18  | report r1 c =9 queue=gpu                | -
    19  | lost app.gpu                            | -
    24  | tick                                    | -
    25  | rows Timer                              | 0
    30  | unpause r1                              | unpaused by ann; reload r1
    30  | tick                                    | dispatch r1 d#0 a=1; dispatch r1 c#0 for k1 a=1; dispatch r1 b#1 a=1
    31  | claim-step r1 c k3 queue=gpu            | dispatch r1 c#0 for k3 a=1
    32  | report r1 c =3 queue=gpu claim=k3       | kept c=3; resume r1 c=3
    33  | pause r1                                | paused by ann until 0; reload r1
    34  | postpone-step r1 d queue=gpu for=100    | warned no code
    """


@table()
def test_a_lease_and_a_pause_both_hold_back_a_claim() -> None:
    """A claim that waits for the end of a lease is refused if the run is paused then.

    10 | function f on=go | -
    10 | event go e1      | began r1 f; start r1
    11 | lease r1 for=100 | -
    12 | claim r1 c1      | -
    13 | pause r1         | paused by ann until 0; reload r1
    14 | report r1 a =1   | kept a=1
    15 | lease r1         | stop r1 paused
    16 | unpause r1       | unpaused by ann; reload r1
    17 | claim r1 c2      | moved to epoch 2; load r1 for c2 a=1
    """


@table()
def test_an_event_and_a_look_back_reach_a_paused_run() -> None:
    """Neither its match nor a warning is lost.

    10 | function f on=go              | -
    10 | event go e1                   | began r1 f; start r1
    11 | plan r1 wait:a:paid:100 wait:b:paid:100 | planned a until 111; planned b until 111
    12 | pause r1                      | paused by ann until 0; reload r1
    13 | truncated r1 b paid           | warned step 'b' looked back at only the newest 200 of the kept events 'paid':
       |                               | use match= or an equality in if_=, by which the engine finds those that match
    14 | matched r1 a paid e2          | kept a=paid:e2
    """


@table(Limits(steps_per_run_max=1, run_memo_bytes_max=3))
def test_a_limit_ends_a_paused_run() -> None:
    """A limit exceeded during a pause fails the run at once and removes its timer.

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
    12  | pause r1 until=112              | paused by ann until 112; reload r1
    12  | pause r2 until=112              | paused by ann until 112; reload r2
    12  | pause r3 until=112              | paused by ann until 112; reload r3
    12  | pause r4 until=112              | paused by ann until 112; reload r4
    12  | pause r5 until=112              | paused by ann until 112; reload r5
    12  | pause r6 until=112              | paused by ann until 112; reload r6
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
