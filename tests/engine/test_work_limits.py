"""Limits on work, as record tables: a run holds a permit while it is executing, and asks again when it wakes."""

from tests.engine.tables import table


@table()
def test_a_parked_run_holds_no_permit() -> None:
    """The permit goes to the next run in the transaction that parks the run; a run that wakes asks for it again.

    10  | function f on=go work=1 | -
    10  | event go                | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    10  | event go                | began r2 f queued
    10  | event go                | began r3 f queued
    11  | plan r1 sleep:nap:100   | planned nap until 100
    12  | park r1                 | admitted r2 after 2; start r2 reports-parked
    13  | report r2 a =1          | kept a=1
    14  | plan r2 sleep:nap:50    | planned nap until 50
    15  | park r2                 | admitted r3 after 5; start r3 reports-parked
    15  | park r2                 | -
    50  | tick                    | kept nap=null; woken r2
    51  | limit-of r2             | work f: 1/1, by r3, 1 waiting since 50: r2, place 1
    60  | return r3 =1            | completed r3 =1; emit stream/function.finished#r3:finished; admitted r2 after 10;
        |                         | resume r2 #1
    61  | claim r2 w2             | moved to epoch 2; load r2 for w2 a=1 nap=null reports-parked
    62  | return r2 =1 epoch=2    | completed r2 =1; emit stream/function.finished#r2:finished
    100 | tick                    | kept nap=null; woken r1; admitted r1 after 0; resume r1 #1
    101 | cancel r1               | cancelled r1 !run-cancelled; stop r1 cancelled;
        |                         | emit stream/function.finished#r1:finished;
        |                         | emit stream/function.cancelled#r1:cancelled
    102 | rows GateRun            | 0
    102 | rows GateState          | 0
    102 | rows Timer              | 0
    """


@table()
def test_a_parent_that_invokes_into_its_own_limit_does_not_wait_for_itself() -> None:
    """It has returned its permit when its run of the other function asks for it.

    10 | function p on=go work=1::both | -
    10 | function c work=1::both       | -
    10 | event go                      | began r1 p queued; admitted r1 after 0; start r1 reports-parked
    11 | plan r1 invoke:child:c:1000   | planned child until 1011; began r2 c queued
    12 | park r1                       | admitted r2 after 1; start r2 reports-parked
    13 | return r2 =1                  | completed r2 =1; emit stream/function.finished#r2:finished; kept child=1;
       |                               | woken r1; admitted r1 after 0; resume r1 #1
    14 | claim r1 w1                   | moved to epoch 2; load r1 for w1 child=1 reports-parked
    15 | return r1 =1 epoch=2          | completed r1 =1; emit stream/function.finished#r1:finished
    16 | rows GateState                | 0
    """


@table()
def test_a_run_whose_worker_has_not_read_all_news_keeps_its_permit() -> None:
    """The report repeats the number of the last news; one of an earlier epoch, or that arrives again, changes nothing.

    10 | function f on=go work=1      | -
    10 | event go                     | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    10 | event go                     | began r2 f queued
    11 | plan r1 send:hi:x            | kept hi=["r1:hi:0"]; emit x#r1:hi:0; resume r1 #1 hi=["r1:hi:0"]
    12 | park r1                      | -
    13 | claim r1 w2                  | moved to epoch 2; load r1 for w2 hi=["r1:hi:0"] reports-parked
    14 | plan r1 sleep:nap:50 epoch=2 | planned nap until 50
    15 | park r1                      | -
    16 | park r1 epoch=2 number=1     | -
    17 | park r1 epoch=2              | admitted r2 after 7; start r2 reports-parked
    18 | park r1 epoch=2              | -
    """


@table()
def test_a_claim_of_a_parked_run_gets_nothing() -> None:
    """A worker that reads its commands again has nothing to do; the next grant sends it a command.

    10 | function f on=go work=1 | -
    10 | event go                | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    10 | event go                | began r2 f queued
    11 | plan r1 sleep:nap:50    | planned nap until 50
    12 | park r1                 | admitted r2 after 2; start r2 reports-parked
    13 | claim r1 w2             | stop r1 waiting
    50 | tick                    | kept nap=null; woken r1
    51 | claim r1 w3             | stop r1 waiting
    52 | return r2 =1            | completed r2 =1; emit stream/function.finished#r2:finished; admitted r1 after 2;
       |                         | resume r1 #1
    53 | claim r1 w4             | moved to epoch 2; load r1 for w4 nap=null reports-parked
    """


@table()
def test_the_worker_that_takes_over_a_run_gets_its_permit() -> None:
    """A worker that died while the code was executing returns none, and its late report changes nothing.

    10 | function f on=go work=1 | -
    10 | event go                | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    10 | event go                | began r2 f queued
    11 | lease r1 for=20         | -
    12 | claim r1 w2             | -
    31 | tick                    | moved to epoch 2; load r1 for w2 reports-parked
    32 | park r1                 | -
    33 | rows GateRun            | 2
    34 | park r1 epoch=2         | admitted r2 after 24; start r2 reports-parked
    """


@table()
def test_a_run_that_backs_off_holds_no_permit() -> None:
    """It asks for one when its next attempt is due.

    10 | function f on=go work=1 | -
    10 | event go                | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    10 | event go                | began r2 f queued
    11 | raise r1 retry=50       | attempt 0 failed, next 61; admitted r2 after 1; start r2 reports-parked
    12 | raise r2 retry=10       | attempt 0 failed, next 22
    22 | tick                    | woken r2; admitted r2 after 0; resume r2 #1
    61 | tick                    | woken r1
    62 | return r2 =1            | completed r2 =1; emit stream/function.finished#r2:finished; admitted r1 after 1;
       |                         | resume r1 #1
    63 | postpone r1 for=5       | warned no code
    68 | tick                    | woken r1; admitted r1 after 0; resume r1 #2
    69 | claim r1 w1             | moved to epoch 2; load r1 for w1 reports-parked
    """


@table()
def test_news_of_a_run_that_backs_off_waits_for_its_attempt() -> None:
    """A result that comes meanwhile does not wake it.

    10 | function f on=go work=1 | -
    10 | event go                | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    11 | plan r1 sleep:nap:30    | planned nap until 30
    12 | raise r1 retry=50       | attempt 0 failed, next 62
    30 | tick                    | kept nap=null
    62 | tick                    | woken r1; admitted r1 after 0; resume r1 #1
    """


@table()
def test_a_run_asks_for_the_narrower_limit_first() -> None:
    """It leaves both when it is parked, and passes the others, such as a throttle, only once.

    10 | function f on=go work=1:event.data.t;2::all throttle=9:90 | -
    10 | event go {"t":"a"}                             | began r1 f queued; admitted r1 after 0;
       |                                                | start r1 reports-parked
    10 | event go {"t":"a"}                             | began r2 f queued
    20 | event go {"t":"b"}                             | began r3 f queued
    20 | tick                                           | -
    31 | rows GateRun                                   | 4
    32 | plan r1 sleep:nap:40                           | planned nap until 40
    33 | park r1                                        | admitted r2 after 23; start r2 reports-parked
    40 | tick                                           | kept nap=null; woken r1; admitted r3 after 20;
       |                                                | start r3 reports-parked
    41 | rows GateRun                                   | 5
    42 | limit-of r1                                    | work f of a: 1/1, by r2, 1 waiting since 40: r1, place 1
    43 | return r3 =1                                   | completed r3 =1; emit stream/function.finished#r3:finished
    44 | return r2 =1                                   | completed r2 =1; emit stream/function.finished#r2:finished;
       |                                                | admitted r1 after 4; resume r1 #1
    45 | rows GateRun                                   | 2
    """


@table()
def test_only_the_last_result_of_a_group_wakes_a_parked_run() -> None:
    """As it wakes a run in a worker that no longer has it; while the run holds its permit, each result does.

    10 | function f on=go work=1                        | -
    10 | event go                                       | began r1 f queued; admitted r1 after 0;
       |                                                | start r1 reports-parked
    10 | event go                                       | began r2 f queued
    11 | plan r1 sleep:a:20@g sleep:b:30@g sleep:c:40@g | planned a until 20; planned b until 30; planned c until 40
    20 | tick                                           | kept a=null; resume r1 #1 a=null
    21 | claim r1 w1                                    | moved to epoch 2;
       |                                                | load r1 for w1 a=null b#0 c#0 reports-parked
    22 | park r1 epoch=2                                | admitted r2 after 12; start r2 reports-parked
    30 | tick                                           | kept b=null
    40 | tick                                           | kept c=null; woken r1
    """


@table()
def test_a_limit_that_is_lowered_takes_no_permit() -> None:
    """A run that wakes waits until fewer than the new number are executing.

    10 | function f on=go work=2 | -
    10 | event go                | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    10 | event go                | began r2 f queued; admitted r2 after 0; start r2 reports-parked
    11 | plan r1 sleep:nap:20    | planned nap until 20
    12 | park r1                 | -
    13 | function f on=go work=1 | -
    20 | tick                    | kept nap=null; woken r1
    21 | limit-of r1             | work f: 1/1, by r2, 1 waiting since 20: r1, place 1
    22 | plan r2 sleep:nap:90    | planned nap until 90
    23 | park r2                 | admitted r1 after 3; resume r1 #1
    """


@table()
def test_a_paused_limit_lets_no_run_wake() -> None:
    """The numbers of an operator count for each request.

    10 | function f on=go work=2     | -
    10 | event go                    | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    11 | plan r1 sleep:nap:20        | planned nap until 20
    12 | park r1                     | -
    13 | pause-limit work_f until=60 | -
    20 | tick                        | kept nap=null; woken r1
    60 | tick                        | -
    61 | tick                        | admitted r1 after 41; resume r1 #1
    """


@table()
def test_a_run_that_waits_for_its_permit_again_can_be_cancelled() -> None:
    """So can one that is parked; neither leaves a row.

    10 | function f on=go work=1 cancel_on=no | -
    10 | event go                             | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    10 | event go                             | began r2 f queued
    11 | plan r1 sleep:nap:20                 | planned nap until 20
    12 | park r1                              | admitted r2 after 2; start r2 reports-parked
    20 | tick                                 | kept nap=null; woken r1
    21 | event no                             | cancelled r1 !run-cancelled by no:p7; stop r1 cancelled;
       |                                      | emit stream/function.finished#r1:finished;
       |                                      | emit stream/function.cancelled#r1:cancelled;
       |                                      | cancelled r2 !run-cancelled by no:p7; stop r2 cancelled;
       |                                      | emit stream/function.finished#r2:finished;
       |                                      | emit stream/function.cancelled#r2:cancelled
    22 | event go                             | began r3 f queued; admitted r3 after 0; start r3 reports-parked
    23 | plan r3 wait:a:x:90                  | planned a until 113
    24 | park r3                              | -
    25 | event no                             | cancelled r3 !run-cancelled by no:p11; stop r3 cancelled;
       |                                      | emit stream/function.finished#r3:finished;
       |                                      | emit stream/function.cancelled#r3:cancelled
    26 | event go                             | began r4 f queued; admitted r4 after 0; start r4 reports-parked
    27 | event go                             | began r5 f queued
    28 | plan r4 sleep:nap:40                 | planned nap until 40
    29 | park r4                              | admitted r5 after 2; start r5 reports-parked
    40 | tick                                 | kept nap=null; woken r4
    41 | cancel r4                            | cancelled r4 !run-cancelled; stop r4 cancelled;
       |                                      | emit stream/function.finished#r4:finished;
       |                                      | emit stream/function.cancelled#r4:cancelled
    42 | cancel r5                            | cancelled r5 !run-cancelled; stop r5 cancelled;
       |                                      | emit stream/function.finished#r5:finished;
       |                                      | emit stream/function.cancelled#r5:cancelled
    43 | rows GateState                       | 0
    """


@table()
def test_a_paused_run_returns_its_permit() -> None:
    """At the claim that ends its code, or when its code waits; it asks again when the pause ends.

    10 | function f on=go work=1      | -
    10 | event go                     | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    10 | event go                     | began r2 f queued
    11 | pause r1                     | paused by ann until 0; reload r1
    12 | claim r1 w1                  | stop r1 paused; admitted r2 after 2; start r2 reports-parked
    13 | pause r2                     | paused by ann until 0; reload r2
    14 | park r2                      | -
    15 | unpause r1                   | unpaused by ann queued; admitted r1 after 0; resume r1 #1
    16 | claim r1 w2                  | moved to epoch 2; load r1 for w2 reports-parked
    17 | unpause r2                   | unpaused by ann queued
    18 | plan r1 sleep:nap:50 epoch=2 | planned nap until 50
    19 | pause r1                     | paused by ann until 0; reload r1
    20 | pause r2 until=57            | paused by ann until 57
    21 | park r1 epoch=2              | -
    22 | rows GateRun                 | 0
    50 | tick                         | kept nap=null
    52 | unpause r1                   | unpaused by ann queued; admitted r1 after 0; resume r1 #1
    53 | claim r1 w3                  | moved to epoch 3; load r1 for w3 nap=null reports-parked
    54 | rows GateRun                 | 1
    55 | return r1 =1 epoch=3         | completed r1 =1; emit stream/function.finished#r1:finished
    57 | tick                         | unpaused by time queued; admitted r2 after 0; resume r2 #1
    58 | claim r2 w1                  | moved to epoch 2; load r2 for w1 reports-parked
    """


@table()
def test_a_run_that_is_paused_while_it_waits_keeps_its_place() -> None:
    """It returns the permit that it is granted during the pause.

    10 | function f on=go work=1 | -
    10 | event go                | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    10 | event go                | began r2 f queued
    11 | plan r1 sleep:nap:20    | planned nap until 20
    12 | park r1                 | admitted r2 after 2; start r2 reports-parked
    20 | tick                    | kept nap=null; woken r1
    21 | pause r1                | paused by ann until 0
    22 | event go                | began r3 f queued
    23 | return r2 =1            | completed r2 =1; emit stream/function.finished#r2:finished; admitted r3 after 1;
       |                         | start r3 reports-parked
    24 | rows GateRun            | 1
    25 | pause r3                | paused by ann until 0; reload r3
    26 | unpause r1              | unpaused by ann queued
    27 | unpause r3              | unpaused by ann; reload r3
    """


@table()
def test_a_paused_function_holds_no_permit() -> None:
    """Runs that get one return it, or park, and all ask again when the function is resumed.

    10 | function f on=go work=1             | -
    10 | event go                            | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    10 | event go                            | began r2 f queued
    10 | event go                            | began r3 f queued
    11 | plan r1 sleep:nap:40 sleep:other:44 | planned nap until 40; planned other until 44
    13 | pause-scope function:f              | -
    14 | park r1                             | -
    15 | rows GateRun                        | 0
    40 | tick                                | kept nap=null
    44 | tick                                | kept other=null
    45 | pause r2                            | paused by ann until 0
    46 | unpause r2                          | unpaused by ann
    47 | pause r3 until=48                   | paused by ann until 48
    48 | tick                                | unpaused by time
    49 | cancel r2                           | cancelled r2 !run-cancelled; stop r2 cancelled;
       |                                     | emit stream/function.finished#r2:finished;
       |                                     | emit stream/function.cancelled#r2:cancelled
    49 | cancel r3                           | cancelled r3 !run-cancelled; stop r3 cancelled;
       |                                     | emit stream/function.finished#r3:finished;
       |                                     | emit stream/function.cancelled#r3:cancelled
    50 | resume-scope function:f             | woken r1; admitted r1 after 0; resume r1 #1
    51 | rows GateRun                        | 1
    """


@table()
def test_a_claim_of_a_run_of_a_paused_function_parks_it() -> None:
    """Its code no longer runs anywhere.

    10 | function f on=go work=1 | -
    10 | event go                | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    13 | pause-scope function:f  | -
    14 | claim r1 w1             | stop r1 paused
    15 | rows GateRun            | 0
    50 | resume-scope function:f | woken r1; admitted r1 after 0; resume r1 #1
    """


@table()
def test_a_function_that_is_paused_while_its_run_waits_keeps_the_place() -> None:
    """News that comes meanwhile changes nothing, and a grant after the pause counts.

    10 | function f on=go work=1             | -
    10 | event go                            | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    10 | event go                            | began r2 f queued
    11 | plan r1 sleep:nap:20 sleep:other:30 | planned nap until 20; planned other until 30
    12 | park r1                             | admitted r2 after 2; start r2 reports-parked
    20 | tick                                | kept nap=null; woken r1
    21 | pause-scope function:f              | -
    30 | tick                                | kept other=null
    31 | resume-scope function:f             | -
    32 | return r2 =1                        | completed r2 =1; emit stream/function.finished#r2:finished;
       |                                     | admitted r1 after 12; resume r1 #1
    33 | pause-scope function:f              | -
    34 | plan r1 sleep:last:50               | planned last until 50
    """


@table()
def test_a_run_that_backs_off_in_a_paused_function_asks_when_it_is_due() -> None:
    """Its request is made once.

    10 | function f on=go work=1 | -
    10 | event go                | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    11 | plan r1 sleep:nap:15    | planned nap until 15
    12 | raise r1 retry=50       | attempt 0 failed, next 62
    13 | pause-scope function:f  | -
    15 | tick                    | kept nap=null
    16 | resume-scope function:f | -
    62 | tick                    | woken r1; admitted r1 after 0; resume r1 #1
    """
