"""Limits that count bodies and the code between them, as record tables: a run covers one body by its own permit."""

from tests.engine.tables import table


@table()
def test_code_and_a_body_in_sequence_need_one_permit() -> None:
    """The run takes it before its code starts, and asks for it again when it wakes.

    10 | function f on=go code=1 | -
    10 | event go                | began r1 f queued; admitted r1 after 0; start r1 covers
    10 | event go                | began r2 f queued
    11 | report r1 a =1          | kept a=1
    12 | plan r1 sleep:nap:50    | planned nap until 50
    13 | park r1                 | admitted r2 after 3; start r2 covers
    14 | return r2 =1            | completed r2 =1; emit stream/function.finished#r2:finished
    50 | tick                    | kept nap=null; woken r1; admitted r1 after 0; resume r1 #1
    51 | claim r1 w1             | moved to epoch 2; load r1 for w1 a=1 nap=null covers
    52 | return r1 =1 epoch=2    | completed r1 =1; emit stream/function.finished#r1:finished
    53 | rows GateState          | 0
    """


@table()
def test_parallel_bodies_need_a_permit_each() -> None:
    """One runs by that of the run, and is not planned; each attempt of the others waits for its own.

    10 | function f on=go code=3     | -
    10 | event go                    | began r1 f queued; admitted r1 after 0; start r1 covers
    11 | plan r1 run:b run:c run:d   | planned b until 0; planned c until 0; planned d until 0; resume r1 #1 b#0;
       |                             | resume r1 #2 c#0
    11 | limit-of r1                 | code f: 3/3, by r1, 1 waiting since 11: r1, place 1
    12 | report r1 a =1              | kept a=1
    13 | fail r1 b retry=10          | attempt 0 of b failed, next 23; resume r1 #3 d#0
    23 | tick                        | -
    24 | rows GateRun                | 4
    25 | claim r1 w2                 | moved to epoch 2; load r1 for w2 a=1 b#1~ c#0! d#0! covers
    26 | report r1 c =1 epoch=2      | kept c=1; resume r1 #1 b#1
    27 | return r1 =1 epoch=2        | completed r1 =1; emit stream/function.finished#r1:finished
    28 | rows GateState              | 0
    """


@table()
def test_a_body_that_waits_may_use_the_permit_of_its_run() -> None:
    """Its worker begins it, or reports that the code waits; so a run does not wait for the permit that it holds.

    10 | function f on=go code=1        | -
    10 | event go                       | began r1 f queued; admitted r1 after 0; start r1 covers
    10 | event go                       | began r2 f queued
    11 | plan r1 run:b run:c            | planned b until 0; planned c until 0
    11 | limit-of r1                    | code f: 1/1, by r1, 3 waiting since 10: r2 r1, place 2
    12 | report r1 a =1                 | kept a=1
    13 | report r1 b =1                 | kept b=1
    14 | park r1                        | resume r1 #1 c#0~
    15 | claim r1 w2                    | moved to epoch 2; load r1 for w2 a=1 b=1 c#0!~ covers
    16 | report r1 c =1 epoch=2         | kept c=1
    17 | park r1 epoch=2                | admitted r2 after 7; start r2 covers
    18 | rows GateRun                   | 1
    """


@table()
def test_an_attempt_that_is_due_wakes_a_parked_run() -> None:
    """The attempt asks when a worker has the run, of which the permit covers the first one.

    10 | function f on=go code=1          | -
    10 | event go                         | began r1 f queued; admitted r1 after 0; start r1 covers
    10 | event go                         | began r2 f queued
    11 | plan r1 run:b                    | planned b until 0
    11 | fail r1 a retry=10               | attempt 0 of a failed, next 21
    12 | fail r1 b retry=19               | attempt 0 of b failed, next 31
    13 | park r1                          | admitted r2 after 3; start r2 covers
    21 | tick                             | woken r1
    31 | tick                             | -
    31 | rows GateRun                     | 2
    32 | return r2 =1                     | completed r2 =1; emit stream/function.finished#r2:finished;
       |                                  | admitted r1 after 11; resume r1 #1
    33 | claim r1 w1                      | moved to epoch 2; load r1 for w1 a#1!~ b#1~ covers
    33 | limit-of r1                      | code f: 1/1, by r1, 1 waiting since 33: r1, place 1
    34 | report r1 a =1 epoch=2 attempt=1 | kept a=1
    35 | claim r1 w2                      | moved to epoch 3; load r1 for w2 a=1 b#1~ covers
    36 | park r1 epoch=3                  | resume r1 #1 b#1~
    37 | report r1 b =1 epoch=3 attempt=1 | kept b=1
    38 | park r1 epoch=3 number=1         | -
    39 | rows GateState                   | 0
    """


@table()
def test_a_covered_body_passes_only_limits_of_its_own() -> None:
    """While it waits for them its run keeps the permit; another one waits for both kinds.

    10 | function f on=go code=2               | -
    10 | event go                              | began r1 f queued; admitted r1 after 0; start r1 covers
    10 | event go                              | began r2 f queued; admitted r2 after 0; start r2 covers
    11 | plan r1 covered:a::db/1               | planned a until 0; resume r1 #1 a#0~
    12 | plan r2 covered:a::db/1 run:b::db/1   | planned a until 0; planned b until 0
    13 | park r2                               | -
    14 | report r1 a =1                        | kept a=1; resume r2 #1 a#0~
    15 | claim r2 w1                           | moved to epoch 2; load r2 for w1 a#0!~ b#0 covers
    16 | fail r2 a retry=10 epoch=2            | attempt 0 of a failed, next 26
    17 | park r2 epoch=2                       | resume r2 #1 b#0~
    18 | claim r2 w1                           | -
    18 | claim r2 w2                           | moved to epoch 3; load r2 for w2 a#1 b#0!~ covers
    19 | report r2 b =1 epoch=3                | kept b=1
    20 | park r2 epoch=3                       | -
    26 | tick                                  | woken r2; admitted r2 after 0; resume r2 #1
    27 | claim r2 w3                           | moved to epoch 4; load r2 for w3 b=1 a#1~ covers; resume r2 #1 a#1~
    28 | report r2 a =1 epoch=4 attempt=1      | kept a=1
    29 | return r1 =1                          | completed r1 =1; emit stream/function.finished#r1:finished
    29 | return r2 =1 epoch=4                  | completed r2 =1; emit stream/function.finished#r2:finished
    30 | rows GateState                        | 0
    """


@table()
def test_a_covered_body_that_waits_leaves_the_queue_to_the_next() -> None:
    """The first one of those that wait for named limits is covered, and waits for these.

    10 | function f on=go code=1              | -
    10 | event go                             | began r1 f queued; admitted r1 after 0; start r1 covers
    10 | function g on=ask                    | -
    10 | event ask                            | began r2 g; start r2
    11 | plan r2 run:x::db/1                  | planned x until 0; resume r2 x#0
    12 | plan r1 run:a::db/1                  | planned a until 0
    13 | park r1                              | -
    13 | limit-of r1                          | db: 1/1, by r2, 1 waiting since 13: r1, place 1
    14 | report r2 x =1                       | kept x=1; resume r1 #1 a#0~
    """


@table()
def test_a_run_that_is_parked_returns_the_permits_of_its_bodies() -> None:
    """Code that no longer awaits a body would otherwise wait for the permit that it holds; a grant may be on its way.

    10 | function f on=go code=2   | -
    10 | event go                  | began r1 f queued; admitted r1 after 0; start r1 covers
    11 | plan r1 run:b             | planned b until 0; resume r1 #1 b#0
    12 | park r1 number=1          | -
    13 | rows GateState            | 0
    14 | report r1 b =1            | kept b=1
    """


@table()
def test_a_pause_returns_the_permits_of_a_run_and_of_its_bodies() -> None:
    """Of those that have started, and of those that wait; after the pause they ask again.

    10 | function f on=go code=2 | -
    10 | event go                | began r1 f queued; admitted r1 after 0; start r1 covers
    11 | plan r1 run:b run:c     | planned b until 0; planned c until 0; resume r1 #1 b#0
    12 | pause r1                | paused by ann until 0; reload r1
    13 | claim r1 w1             | stop r1 paused
    14 | rows GateState          | 0
    20 | unpause r1              | unpaused by ann queued; admitted r1 after 0; resume r1 #2
    21 | claim r1 w1             | moved to epoch 2; load r1 for w1 b#0!~ c#0~ covers; resume r1 #1 c#0
    22 | report r1 b =1 epoch=2  | kept b=1
    """


@table()
def test_code_that_waits_during_a_pause_of_its_function_returns_its_permit() -> None:
    """The body that waits for a permit is covered after the pause.

    10 | function f on=go code=1  | -
    10 | event go                 | began r1 f queued; admitted r1 after 0; start r1 covers
    11 | plan r1 run:b            | planned b until 0
    12 | pause-scope function:f   | -
    13 | park r1                  | -
    14 | rows GateState           | 0
    20 | resume-scope function:f  | woken r1; admitted r1 after 0; resume r1 #1
    21 | claim r1 w1              | moved to epoch 2; load r1 for w1 b#0!~ covers
    """


@table()
def test_code_that_fails_returns_the_permits_of_its_bodies() -> None:
    """So does a run for which a worker has no code; each asks again with the run.

    10 | function f on=go code=2      | -
    10 | event go                     | began r1 f queued; admitted r1 after 0; start r1 covers
    11 | plan r1 run:b run:c          | planned b until 0; planned c until 0; resume r1 #1 b#0
    13 | raise r1 retry=20            | attempt 0 failed, next 33
    14 | rows GateState               | 0
    33 | tick                         | woken r1; admitted r1 after 0; resume r1 #2
    34 | claim r1 w1                  | moved to epoch 2; load r1 for w1 b#0!~ c#0~ covers; resume r1 #1 c#0
    34 | plan r1 run:d epoch=2        | planned d until 0
    35 | postpone r1 epoch=2 for=10   | warned no code
    36 | rows GateState               | 0
    45 | tick                         | woken r1; admitted r1 after 0; resume r1 #2
    46 | claim r1 w2                  | moved to epoch 3; load r1 for w2 b#0!~ c#0~ d#0~ covers; resume r1 #1 c#0
    """


@table()
def test_a_heartbeat_says_that_a_body_is_covered() -> None:
    """Of one that waits for a separate permit, and of one that the engine does not know.

    10 | function f on=go code=1          | -
    10 | event go                         | began r1 f queued; admitted r1 after 0; start r1 covers
    11 | plan r1 run:b run:d::db/1        | planned b until 0; planned d until 0
    11 | rows GateRun                     | 3
    12 | beat r1 d sent=12                | -
    12 | beat r1 b sent=12                | attempt 0 of b runs
    12 | rows GateRun                     | 2
    13 | fail r1 b retry=10               | attempt 0 of b failed, next 23
    14 | beat r1 c sent=14                | attempt 0 of c runs
    15 | fail r1 c retry=90               | attempt 0 of c failed, next 105
    23 | tick                             | -
    24 | rows GateRun                     | 3
    """


@table()
def test_a_body_in_a_queue_needs_a_separate_permit() -> None:
    """It gets that of its run, which is parked meanwhile; a limit on executing runs is asked for first.

    10 | function f on=go code=1 work=2 queues=gpu | -
    10 | event go                                  | began r1 f queued; admitted r1 after 0; start r1 covers
    10 | event go                                  | began r2 f queued
    11 | plan r1 run:a:gpu                         | planned a until 0
    12 | park r1                                   | admitted r2 after 2; start r2 covers
    13 | return r2 =1                              | completed r2 =1; emit stream/function.finished#r2:finished;
       |                                           | dispatch r1 a#0
    14 | report r1 a =1 queue=gpu                  | kept a=1; woken r1; admitted r1 after 0; resume r1 #1
    """


@table()
def test_code_and_bodies_take_the_narrower_limit_first() -> None:
    """A run that waits for the shared one holds that of its key, and no body holds a permit that its run waits for.

    10 | function f on=go code=1:event.data.t;2::all | -
    10 | event go {"t":"a"}   | began r1 f queued; admitted r1 after 0; start r1 covers
    10 | event go {"t":"a"}   | began r2 f queued
    10 | event go {"t":"b"}   | began r3 f queued; admitted r3 after 0; start r3 covers
    10 | event go {"t":"c"}   | began r4 f queued
    11 | plan r1 run:b        | planned b until 0
    12 | report r1 b =1       | kept b=1
    13 | plan r1 sleep:nap:90 | planned nap until 90
    14 | park r1              | admitted r4 after 4; start r4 covers
    16 | return r3 =1         | completed r3 =1; emit stream/function.finished#r3:finished; admitted r2 after 6;
       |                      | start r2 covers
    90 | tick                 | kept nap=null; woken r1
    """


@table()
def test_a_run_beyond_its_time_covers_no_further_body() -> None:
    """It is cancelled when its code waits.

    10 | function f on=go code=1 finish=50 | -
    10 | event go                          | began r1 f queued; admitted r1 after 0; start r1 announced covers
    10 | execute r1                        | executes until 60
    11 | plan r1 run:b run:c               | planned b until 0; planned c until 0
    60 | tick                              | expired until 600060; reload r1 expired
    61 | report r1 b =1                    | kept b=1
    62 | park r1                           | cancelled r1 !run-cancelled; stop r1 cancelled;
       |                                   | emit stream/function.finished#r1:finished;
       |                                   | emit stream/function.cancelled#r1:cancelled
    63 | rows GateState                    | 0
    """
