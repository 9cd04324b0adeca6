"""What history says of limits, as record tables: what was passed, with which place, and when permits were returned."""

from tests.engine.tables import table


@table()
def test_history_has_the_place_and_the_wait_of_each_limit() -> None:
    """A place counts those that waited before; a run that passes at once has none. The end returns the permit.

    10 | function f on=go throttle=1:5 concurrency=1:event.data.t | -
    10 | event go {"t":"a"} | began r1 f queued; admitted r1 after 0; start r1
    10 | event go {"t":"a"} | began r2 f queued
    11 | event go {"t":"a"} | began r3 f queued
    11 | decisions          | r1 run.admitted: throttle f, concurrency f of a
    15 | tick               | -
    20 | tick               | -
    30 | return r1 =1       | completed r1 =1; emit stream/function.finished#r1:finished; admitted r2 after 20; start r2
    31 | return r2 =1       | completed r2 =1; emit stream/function.finished#r2:finished; admitted r3 after 20; start r3
    31 | decisions          | r2 run.admitted: throttle f place 1 for 5, concurrency f of a place 1 for 15;
       |                    | r3 run.admitted: throttle f place 2 for 9, concurrency f of a place 2 for 11
    """


@table()
def test_history_has_the_limits_of_each_attempt_of_a_step() -> None:
    """An attempt that fails returns its permits, and the next one asks again; a body without limits has nothing.

    10  | function f on=go                  | -
    10  | event go                          | began r1 f; start r1
    11  | plan r1 run:a::db/1 run:b::db/1 run:c::db/1 | planned a until 0; planned b until 0; planned c until 0;
        |                                   | resume r1 a#0
    14  | fail r1 a attempt=0 retry=20      | attempt 0 of a failed, next 34; resume r1 b#0
    15  | report r1 b =1                    | kept b=1; resume r1 c#0
    34  | tick                              | -
    40  | report r1 c =1                    | kept c=1; resume r1 a#1
    41  | report r1 a =1 attempt=1          | kept a=1
    42  | report r1 d =1                    | kept d=1
    42  | return r1 =1                      | completed r1 =1; emit stream/function.finished#r1:finished
    43  | decisions                         | a of r1 step.attempt_failed: db; b of r1 step.ended: db place 1 for 3;
        |                                   | c of r1 step.ended: db place 2 for 4; a of r1 step.ended: db place 1 for 6
    """


@table()
def test_history_has_the_units_that_a_body_asked_for_and_used() -> None:
    """Both of an attempt that says what it used; one that does not used what it asked for.

    10  | function f on=go                                     | -
    10  | event go                                             | began r1 f; start r1
    11  | plan r1 run:a::tok/100/100:40 run:b::tok/100/100:40  | planned a until 0; planned b until 0; resume r1 a#0
    20  | report r1 a =1 used=10                               | kept a=1
    21  | tick                                                 | resume r1 b#0
    30  | report r1 b =1                                       | kept b=1
    30  | decisions                                            | a of r1 step.ended: tok 40 units used 10;
        |                                                      | b of r1 step.ended: tok place 1 for 10 40 units
    """


@table()
def test_history_says_when_a_parked_run_returned_its_permits() -> None:
    """The entry that has it wake says so, or its end; a body that is covered has no permit of its own.

    10 | function f on=go code=1    | -
    10 | event go                   | began r1 f queued; admitted r1 after 0; start r1 covers
    11 | plan r1 run:b sleep:nap:50 | planned b until 0; planned nap until 50
    12 | report r1 b =1             | kept b=1
    13 | park r1                    | -
    50 | tick                       | kept nap=null; woken r1; admitted r1 after 0; resume r1 #1
    51 | claim r1 w1                | moved to epoch 2; load r1 for w1 b=1 nap=null covers
    52 | park r1 epoch=2            | -
    53 | pause r1                   | paused by ann until 0
    54 | unpause r1                 | unpaused by ann queued; admitted r1 after 0; resume r1 #1
    55 | park r1 epoch=2 number=1   | -
    56 | cancel r1                  | cancelled r1 !run-cancelled; stop r1 cancelled;
       |                            | emit stream/function.finished#r1:finished;
       |                            | emit stream/function.cancelled#r1:cancelled
    57 | decisions                  | r1 run.admitted: code f; r1 parked at 13; r1 run.admitted: code f;
       |                            | r1 parked at 52; r1 run.admitted: code f; r1 parked at 55
    """


@table()
def test_history_has_the_permits_of_what_ends_before_it_starts() -> None:
    """Of a run that is cancelled while it waits for a further limit, and of a step that the code cancels.

    10 | function f on=go idempotency=event.data.n concurrency=1 queues=gpu | -
    10 | event go {"n":1}                | began r1 f queued; admitted r1 after 0; start r1
    11 | event go {"n":2}                | began r2 f queued
    12 | cancel r2                       | cancelled r2 !run-cancelled; stop r2 cancelled;
       |                                 | emit stream/function.finished#r2:finished;
       |                                 | emit stream/function.cancelled#r2:cancelled
    13 | plan r1 run:a:gpu:db/1          | planned a until 0; dispatch r1 a#0
    14 | plan r1 cancel=a                | dropped a; stop r1 a cancelled
    15 | decisions                       | r1 run.admitted: idempotency f of 1, concurrency f;
       |                                 | r2 run.ended: idempotency f of 2; a of r1 step.cancelled: db
    """


@table()
def test_history_has_the_first_place_of_a_batch() -> None:
    """The run that has the events of a batch waited longest; the others end as skipped.

    10 | function f on=go batch=2:100 | -
    10 | event go e1 | began r1 f queued
    13 | event go e2 | began r2 f queued; batched r1 e1,e2; admitted r1 after 3; start r1; skipped r2 !batched
    13 | decisions   | r1 run.admitted: batch f place 1 for 3
    """


@table()
def test_history_of_a_pause_has_only_the_permits_that_a_run_kept() -> None:
    """A permit of a limit on work that comes during a pause is returned; the others stay.

    10 | function f on=go concurrency=9 work=1 | -
    10 | event go        | began r1 f queued; admitted r1 after 0; start r1 reports-parked
    11 | event go        | began r2 f queued
    12 | pause r2        | paused by ann until 0
    13 | return r1 =1    | completed r1 =1; emit stream/function.finished#r1:finished
    14 | decisions       | r1 run.admitted: concurrency f, work f
    20 | unpause r2      | unpaused by ann queued; admitted r2 after 0; resume r2 #1
    21 | decisions       | r2 parked at 13; r2 run.admitted: concurrency f, work f
    """
