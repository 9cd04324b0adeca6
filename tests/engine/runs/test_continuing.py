"""Continue as new, as record tables: a run ends and its successor begins, with its caller, attributes and gates."""

from tests.engine.tables import table


@table()
def test_a_run_ends_and_its_successor_begins() -> None:
    """The end and the start are one step; a repeated report changes nothing, and the series is numbered.

    10 | function f on=go attributes=n:event.data.n;m:event.data.m | -
    10 | event go {"n":1,"m":1}        | began r1 f with {"n":1,"m":1}; start r1
    11 | set r1 {"stage":"late"}       | attributes {"n":1,"m":1,"stage":"late"}
    12 | plan r1 wait:a:paid:500       | planned a until 512
    13 | continue r1 {"n":2}           | completed r1 =null; emit stream/function.finished#r1:finished;
       |                               | began r2 f continues r1#1 with {"n":2,"m":1,"stage":"late"}; start r2
    13 | rows Wait                     | 0
    14 | continue r1 {"n":2}           | -
    15 | continue r2 {"n":3}           | completed r2 =null; emit stream/function.finished#r2:finished;
       |                               | began r3 f continues r2#2 with {"n":3,"m":1,"stage":"late"}; start r3
    16 | return r3 =1                  | completed r3 =1; emit stream/function.finished#r3:finished
    16 | rows Timer                    | 0
    """


@table()
def test_the_caller_waits_for_the_last_of_a_series() -> None:
    """The step of the caller gets the result of the last successor, and its cancellation reaches that one.

    10 | function f on=go                | -
    10 | function g                      | -
    10 | event go                        | began r1 f; start r1
    11 | plan r1 invoke:a:g:500:cancel   | planned a until 511; began r2 g; start r2
    12 | continue r2                     | completed r2 =null; emit stream/function.finished#r2:finished;
       |                                 | began r3 g continues r2#1; start r3
    13 | return r3 =1                    | completed r3 =1; emit stream/function.finished#r3:finished;
       |                                 | kept a=1; resume r1 a=1
    14 | plan r1 invoke:b:g:500:cancel   | planned b until 514; began r4 g; start r4
    15 | continue r4                     | completed r4 =null; emit stream/function.finished#r4:finished;
       |                                 | began r5 g continues r4#1; start r5
    16 | return r1                       | completed r1 =null; emit stream/function.finished#r1:finished;
       |                                 | cancelled r5 !run-cancelled; stop r5 cancelled;
       |                                 | emit stream/function.finished#r5:finished;
       |                                 | emit stream/function.cancelled#r5:cancelled
    16 | rows Child                      | 0
    """


@table()
def test_a_successor_ends_with_a_caller_that_has_ended() -> None:
    """The caller ends while its child continues as new: the successor is cancelled if the child would have been.

    10 | function f on=go                      | -
    10 | function g                            | -
    10 | event go                              | began r1 f; start r1
    11 | plan r1 invoke:a:g:500:cancel         | planned a until 511; began r2 g; start r2
    12 | continue r2 & return r1               | completed r2 =null; emit stream/function.finished#r2:finished;
       |                                       | completed r1 =null; emit stream/function.finished#r1:finished;
       |                                       | began r3 g continues r2#1; start r3;
       |                                       | cancelled r3 !run-cancelled; stop r3 cancelled;
       |                                       | emit stream/function.finished#r3:finished;
       |                                       | emit stream/function.cancelled#r3:cancelled
    13 | rows Run                              | 0
    """


@table()
def test_a_successor_passes_the_gates_again() -> None:
    """The permit goes to the run that waits, and the successor waits behind it.

    10 | function f on=go concurrency=1      | -
    10 | event go                            | began r1 f queued; admitted r1 after 0; start r1
    11 | event go                            | began r2 f queued
    12 | continue r1                         | completed r1 =null; emit stream/function.finished#r1:finished;
       |                                     | began r3 f queued continues r1#1; admitted r2 after 1; start r2
    13 | return r2                           | completed r2 =null; emit stream/function.finished#r2:finished;
       |                                     | admitted r3 after 1; start r3
    """


@table()
def test_a_rate_limit_does_not_end_a_series() -> None:
    """A limit that refuses runs counts the first of a series, and refuses none of its successors.

    10 | function f on=go rate=1:1000        | -
    10 | event go                            | began r1 f queued; admitted r1 after 0; start r1
    12 | continue r1                         | completed r1 =null; emit stream/function.finished#r1:finished;
       |                                     | began r2 f continues r1#1; start r2
    """


@table()
def test_a_series_of_runs_is_one_singleton() -> None:
    """Its runs hand the permit over, so no other run starts in between; the last one returns it.

    10 | function f on=go singleton=skip concurrency=1::other | -
    10 | event go                            | began r1 f queued; admitted r1 after 0; start r1
    11 | continue r1 & event go              | completed r1 =null; emit stream/function.finished#r1:finished;
       |                                     | began r2 f queued continues r1#1; began r3 f queued;
       |                                     | skipped r3 !skipped; admitted r2 after 0; start r2
    12 | pause-scope function:f              | -
    13 | continue r2                         | completed r2 =null; emit stream/function.finished#r2:finished;
       |                                     | began r4 f queued continues r2#2
    14 | event go                            | began r5 f queued; skipped r5 !skipped
    15 | resume-scope function:f             | admitted r4 after 2; start r4
    16 | return r4                           | completed r4 =null; emit stream/function.finished#r4:finished
    17 | rows GateRun                        | 0
    """


@table()
def test_a_run_replaces_a_series() -> None:
    """Also one that continues at that moment: its successor ends before its code starts.

    10 | function f on=go singleton=cancel   | -
    10 | event go                            | began r1 f queued; admitted r1 after 0; start r1
    11 | continue r1                         | completed r1 =null; emit stream/function.finished#r1:finished;
       |                                     | began r2 f queued continues r1#1; admitted r2 after 0; start r2
    12 | event go & continue r2              | completed r2 =null; emit stream/function.finished#r2:finished;
       |                                     | began r3 f queued; began r4 f queued continues r2#2;
       |                                     | admitted r3 after 0; start r3;
       |                                     | cancelled r4 !run-cancelled; stop r4 cancelled;
       |                                     | emit stream/function.finished#r4:finished;
       |                                     | emit stream/function.cancelled#r4:cancelled
    13 | return r3                           | completed r3 =null; emit stream/function.finished#r3:finished
    14 | rows GateRun                        | 0
    """


@table()
def test_an_event_cancels_the_successor() -> None:
    """The waits of a successor are registered before those of its predecessor are closed.

    10 | function f on=go cancel_on=stop:data.n | -
    10 | event go {"n":1}                       | began r1 f; start r1
    11 | continue r1 {"n":2}                    | completed r1 =null; emit stream/function.finished#r1:finished;
       |                                        | began r2 f continues r1#1; start r2
    11 | rows Wait                              | 1
    12 | event stop {"n":1} x1                  | -
    13 | event stop {"n":2} x2                  | cancelled r2 !run-cancelled by stop:x2; stop r2 cancelled;
       |                                        | emit stream/function.finished#r2:finished;
       |                                        | emit stream/function.cancelled#r2:cancelled
    13 | rows Wait                              | 0
    13 | rows Timer                             | 0
    """


@table()
def test_a_paused_run_continues_after_its_pause() -> None:
    """While it is paused, a run does not continue as new; its code runs again when the pause ends. One may back off.

    10  | function f on=go         | -
    10  | event go                 | began r1 f; start r1
    11  | pause r1                 | paused by ann until 0; reload r1
    12  | continue r1              | -
    13  | unpause r1               | unpaused by ann; reload r1
    14  | raise r1 retry=5         | attempt 0 failed, next 19
    15  | continue r1              | completed r1 =null; emit stream/function.finished#r1:finished;
        |                          | began r2 f continues r1#1; start r2
    """


@table()
def test_a_run_beyond_its_time_does_not_continue() -> None:
    """A run that has exceeded its finish timeout is cancelled instead.

    10  | function f on=go finish=90 | -
    10  | event go                   | began r1 f; start r1 announced
    11  | execute r1                 | executes until 101
    101 | tick                       | expired until 600101; reload r1 expired
    102 | continue r1                | cancelled r1 !run-cancelled; stop r1 cancelled;
        |                            | emit stream/function.finished#r1:finished;
        |                            | emit stream/function.cancelled#r1:cancelled
    """


@table()
def test_a_singleton_that_waits_since_a_deployment_hands_its_permit_over() -> None:
    """The successor passes the limit once, with the permit that it takes over.

    10 | function f on=go singleton=skip | -
    10 | event go                        | began r1 f queued; admitted r1 after 0; start r1
    11 | function f on=go singleton=wait | -
    12 | continue r1                     | completed r1 =null; emit stream/function.finished#r1:finished;
       |                                 | began r2 f queued continues r1#1; admitted r2 after 0; start r2
    13 | return r2 =1                    | completed r2 =1; emit stream/function.finished#r2:finished
    14 | rows GateRun                    | 0
    """
