"""Limits on the runs of a function, as record tables: how many are open at a time, and how many start in a period."""

from itertools import pairwise

from stepstream.contract.gates import Gate, GateAsked, GateGranted, GateLeft
from stepstream.contract.ids import run_hash, run_id_at
from stepstream.contract.limits import DEFAULT_LIMITS
from stepstream.engine.state.changes import Send
from stepstream.engine.state.records import Input, Tick
from stepstream.engine.state.tables import GATE_QUEUE
from stepstream.engine.transition import due_timers, transition
from tests.engine.tables import table
from tests.fakes.tables import CountingTables, Tables


@table()
def test_a_run_with_a_priority_passes_others_that_wait() -> None:
    """It is moved forward by so many seconds; among runs with the same time the order is that in which they asked.

    10    | function f on=go concurrency=1 priority=event.data.p | -
    10    | event go {"p":0}   | began r1 f queued; admitted r1 after 0; start r1
    20    | event go {"p":0}   | began r2 f queued
    30    | event go {"p":9}   | began r3 f queued
    40    | event go {"p":9}   | began r4 f queued
    50    | event go {"p":-9}  | began r5 f queued
    60    | event go {"p":"x"} | began r6 f queued
    61    | count gate_key_errors | 1
    9045  | event go {"p":0}   | began r7 f queued
    10000 | return r1 =1       | completed r1 =1; emit stream/function.finished#r1:finished;
          |                    | admitted r3 after 9970; start r3
    10001 | return r3 =1       | completed r3 =1; emit stream/function.finished#r3:finished;
          |                    | admitted r4 after 9961; start r4
    10002 | return r4 =1       | completed r4 =1; emit stream/function.finished#r4:finished;
          |                    | admitted r2 after 9982; start r2
    10003 | event go {"p":99}  | began r8 f queued
    10004 | return r2 =1       | completed r2 =1; emit stream/function.finished#r2:finished;
          |                    | admitted r8 after 1; start r8
    10005 | return r8 =1       | completed r8 =1; emit stream/function.finished#r8:finished;
          |                    | admitted r6 after 9945; start r6
    10006 | return r6 =1       | completed r6 =1; emit stream/function.finished#r6:finished;
          |                    | admitted r7 after 961; start r7
    10007 | return r7 =1       | completed r7 =1; emit stream/function.finished#r7:finished;
          |                    | admitted r5 after 9957; start r5
    10008 | return r5 =1       | completed r5 =1; emit stream/function.finished#r5:finished
    10009 | rows GateWaiter    | 0
    10009 | rows GateState     | 0
    """


@table()
def test_runs_beyond_a_limit_start_in_order_when_others_end() -> None:
    """A run that ends, in whatever way, lets the first one that waits start; at the end no row is left.

    10 | function f on=go concurrency=2::two | -
    10 | event go              | began r1 f queued; admitted r1 after 0; start r1
    10 | event go              | began r2 f queued; admitted r2 after 0; start r2
    11 | event go              | began r3 f queued
    12 | event go              | began r4 f queued
    12 | count gate_waits two | 2
    12 | count open_gate_permits two | 2
    12 | count open_gate_waiters two | 2
    20 | return r2 =1          | completed r2 =1; emit stream/function.finished#r2:finished; admitted r3 after 9;
       |                       | start r3
    30 | cancel r1             | cancelled r1 !run-cancelled; stop r1 cancelled;
       |                       | emit stream/function.finished#r1:finished; emit stream/function.cancelled#r1:cancelled;
       |                       | admitted r4 after 18; start r4
    40 | raise r3              | failed r3 !Oops; stop r3 failed; emit stream/function.finished#r3:finished;
       |                       | emit stream/function.failed#r3:failed
    41 | rows GateRun          | 1
    50 | return r4 =1          | completed r4 =1; emit stream/function.finished#r4:finished
    51 | rows GateRun          | 0
    51 | rows GateState        | 0
    51 | count open_gate_permits two | 0
    51 | count open_gate_waiters two | 0
    51 | rows GateWaiter       | 0
    """


@table()
def test_each_value_of_a_key_has_a_limit() -> None:
    """A missing value, and one that is not a text, number or bool, share one limit, and are counted.

    10 | function f on=go concurrency=1:event.data.t | -
    10 | event go {"t":"a"}    | began r1 f queued; admitted r1 after 0; start r1
    10 | event go {"t":"b"}    | began r2 f queued; admitted r2 after 0; start r2
    10 | event go {"t":"a"}    | began r3 f queued
    10 | event go {}           | began r4 f queued; admitted r4 after 0; start r4
    11 | event go {"t":[]}     | began r5 f queued
    11 | event go {"t":null}   | began r6 f queued
    11 | count gate_key_errors | 3
    12 | return r4 =1          | completed r4 =1; emit stream/function.finished#r4:finished;
       |                       | admitted r5 after 1; start r5
    """


@table()
def test_a_run_that_waits_can_be_cancelled() -> None:
    """Its place is free; its request to leave and a grant that has come meanwhile change nothing.

    10 | function f on=go concurrency=1 | -
    10 | event go              | began r1 f queued; admitted r1 after 0; start r1
    10 | event go              | began r2 f queued
    10 | event go              | began r3 f queued
    20 | cancel r2             | cancelled r2 !run-cancelled; stop r2 cancelled;
       |                       | emit stream/function.finished#r2:finished; emit stream/function.cancelled#r2:cancelled
    30 | return r1 =1          | completed r1 =1; emit stream/function.finished#r1:finished;
       |                       | admitted r3 after 20; start r3
    40 | return r3 =1          | completed r3 =1; emit stream/function.finished#r3:finished
    41 | rows GateState        | 0
    """


@table()
def test_starts_in_a_period_are_spread() -> None:
    """Two starts in 100 ms are one every 50 ms; the gate is forgotten when it restricts nothing any longer.

    10  | function f on=go throttle=2:100 | -
    10  | event go              | began r1 f queued; admitted r1 after 0; start r1
    10  | event go              | began r2 f queued
    11  | event go              | began r3 f queued
    59  | tick                  | -
    60  | tick                  | admitted r2 after 50; start r2
    70  | cancel r3             | cancelled r3 !run-cancelled; stop r3 cancelled;
        |                       | emit stream/function.finished#r3:finished;
        |                       | emit stream/function.cancelled#r3:cancelled
    80  | event go              | began r4 f queued
    110 | tick                  | admitted r4 after 30; start r4
    159 | rows GateState        | 1
    160 | tick                  | -
    161 | rows GateState        | 0
    """


@table()
def test_a_burst_starts_at_once_after_a_pause() -> None:
    """A burst of two lets three runs start at once; after that the starts are spread.

    10  | function f on=go throttle=1:100:2 | -
    10  | event go              | began r1 f queued; admitted r1 after 0; start r1
    10  | event go              | began r2 f queued; admitted r2 after 0; start r2
    10  | event go              | began r3 f queued; admitted r3 after 0; start r3
    10  | event go              | began r4 f queued
    110 | tick                  | admitted r4 after 100; start r4
    """


@table()
def test_a_run_passes_its_gates_one_after_the_other() -> None:
    """It takes a permit only after the gates before; functions that name the same limit share it.

    10  | function f on=go throttle=1:100 concurrency=1::shared | -
    10  | function g on=too concurrency=1::shared | -
    10  | event too             | began r1 g queued; admitted r1 after 0; start r1
    20  | event go              | began r2 f queued
    30  | event go              | began r3 f queued
    40  | return r1 =1          | completed r1 =1; emit stream/function.finished#r1:finished;
        |                       | admitted r2 after 20; start r2
    120 | tick                  | -
    130 | return r2 =1          | completed r2 =1; emit stream/function.finished#r2:finished; admitted r3 after 100;
        |                       | start r3
    """


@table()
def test_a_scheduled_run_asks_when_it_is_due() -> None:
    """Until then it holds no permit.

    10  | function f on=go concurrency=1 | -
    10  | event go ts=100       | began r1 f for 100 queued
    20  | event go              | began r2 f queued; admitted r2 after 0; start r2
    100 | tick                  | -
    110 | return r2 =1          | completed r2 =1; emit stream/function.finished#r2:finished;
        |                       | admitted r1 after 10; start r1
    """


@table()
def test_a_scheduled_run_that_was_paused_asks_when_it_is_due() -> None:
    """A pause that ends before that time changes nothing, and one that lasts longer delays the request.

    10  | function f on=go concurrency=1 | -
    10  | event go ts=100       | began r1 f for 100 queued
    10  | event go ts=101       | began r2 f for 101 queued
    10  | event go ts=102       | began r3 f for 102 queued
    20  | pause r1              | paused by ann until 0
    20  | pause r2 until=40     | paused by ann until 40
    20  | pause r3              | paused by ann until 0
    30  | unpause r1            | unpaused by ann
    40  | tick                  | unpaused by time
    100 | tick                  | admitted r1 after 0; start r1
    102 | tick                  | -
    110 | unpause r3            | unpaused by ann
    110 | tick                  | -
    120 | return r1 =1          | completed r1 =1; emit stream/function.finished#r1:finished;
        |                       | admitted r2 after 18; start r2
    130 | return r2 =1          | completed r2 =1; emit stream/function.finished#r2:finished;
        |                       | admitted r3 after 20; start r3
    """


@table()
def test_a_limit_that_was_raised_lets_those_that_wait_start() -> None:
    """The latest request has the limit that counts. A lower one interrupts nothing.

    10 | function f on=go concurrency=1 | -
    10 | event go              | began r1 f queued; admitted r1 after 0; start r1
    10 | event go              | began r2 f queued
    11 | function f on=go concurrency=3 | -
    12 | event go              | began r3 f queued; admitted r2 after 2; start r2; admitted r3 after 0; start r3
    13 | function f on=go concurrency=1 | -
    14 | event go              | began r4 f queued
    15 | return r1 =1          | completed r1 =1; emit stream/function.finished#r1:finished
    16 | return r2 =1          | completed r2 =1; emit stream/function.finished#r2:finished
    17 | return r3 =1          | completed r3 =1; emit stream/function.finished#r3:finished;
       |                       | admitted r4 after 3; start r4
    """


@table()
def test_a_run_asks_with_the_limits_that_its_function_has_then() -> None:
    """They may have changed since it was admitted: here it was in the queue of another gate.

    10  | function f on=go throttle=1:100 concurrency=1 | -
    10  | event go              | began r1 f queued; admitted r1 after 0; start r1
    11  | event go              | began r2 f queued
    12  | event go              | began r3 f queued
    20  | function f on=go throttle=1:100 concurrency=2 | -
    110 | tick                  | admitted r2 after 99; start r2
    120 | function f on=go | -
    210 | tick                  | -
    220 | return r2 =1          | completed r2 =1; emit stream/function.finished#r2:finished
    230 | return r1 =1          | completed r1 =1; emit stream/function.finished#r1:finished;
        |                       | admitted r3 after 218; start r3
    """


@table()
def test_a_higher_rate_does_not_wait_for_the_period_of_the_lower_one() -> None:
    """The next start is at most one interval of the limits that count now away. A clock that was ahead costs no more.

    10   | function f on=go throttle=1:100000 | -
    10   | event go              | began r1 f queued; admitted r1 after 0; start r1
    11   | event go              | began r2 f queued
    12   | function f on=go throttle=10:100 | -
    13   | event go              | began r3 f queued
    23   | tick                  | admitted r2 after 12; start r2
    33   | tick                  | admitted r3 after 20; start r3
    9000 | event go              | began r4 f queued; admitted r4 after 0; start r4
    40   | event go              | began r5 f queued
    50   | tick                  | admitted r5 after 10; start r5
    """


@table()
def test_a_pause_holds_a_run_that_has_passed_its_gates() -> None:
    """A paused run keeps its place, and its code starts after the pause. A claim of a run that waits is refused.

    10 | function f on=go concurrency=1 | -
    10 | event go              | began r1 f queued; admitted r1 after 0; start r1
    10 | event go              | began r2 f queued
    20 | pause r2              | paused by ann until 0
    21 | claim r2 c1           | stop r2 waiting
    30 | return r1 =1          | completed r1 =1; emit stream/function.finished#r1:finished; admitted r2 after 20
    40 | unpause r2            | unpaused by ann; reload r2
    41 | event go              | began r3 f queued
    42 | claim r3 c2           | stop r3 waiting
    43 | pause r3              | paused by ann until 0
    44 | unpause r3            | unpaused by ann
    """


@table()
def test_runs_of_a_paused_function_ask_when_it_is_resumed() -> None:
    """They keep their order.

    10 | function f on=go concurrency=1 | -
    10 | pause-scope function:f | -
    11 | event go              | began r1 f queued
    12 | event go              | began r2 f queued
    20 | resume-scope function:f | admitted r1 after 0; start r1
    30 | return r1 =1          | completed r1 =1; emit stream/function.finished#r1:finished;
       |                       | admitted r2 after 10; start r2
    """


@table()
def test_a_pause_of_the_function_holds_a_run_that_passes_its_gates() -> None:
    """It was queued before the pause, keeps its place, and holds its permit.

    10 | function f on=go concurrency=1 | -
    10 | event go              | began r1 f queued; admitted r1 after 0; start r1
    11 | event go              | began r2 f queued
    12 | event go              | began r3 f queued
    20 | pause-scope function:f | -
    30 | return r1 =1          | completed r1 =1; emit stream/function.finished#r1:finished; admitted r2 after 19
    40 | resume-scope function:f | reload r2
    50 | return r2 =1          | completed r2 =1; emit stream/function.finished#r2:finished;
       |                       | admitted r3 after 38; start r3
    """


@table()
def test_a_rerun_passes_the_gates_too() -> None:
    """It receives the results that it takes over when its code starts.

    10 | function f on=go concurrency=1 | -
    10 | event go              | began r1 f queued; admitted r1 after 0; start r1
    20 | rerun r9 f q1 go e1 a:=1 | began r2 f of r9 queued; copied a=1
    30 | return r1 =1          | completed r1 =1; emit stream/function.finished#r1:finished; admitted r2 after 10;
       |                       | resume r2
    """


@table()
def test_time_and_events_end_a_run_that_waits() -> None:
    """A timeout and an event that cancels it; the end of its pause changes nothing.

    10 | function f on=go concurrency=1 cancel_on=stop:data.n start=100 | -
    10 | event go {"n":1}      | began r1 f by 110 queued; admitted r1 after 0; start r1 announced
    11 | execute r1            | executes until 0
    20 | event go {"n":2}      | began r2 f by 120 queued
    30 | event go {"n":3}      | began r3 f by 130 queued
    40 | pause r2 until=50     | paused by ann until 50
    50 | tick                  | unpaused by time
    60 | event stop {"n":3}    | cancelled r3 !run-cancelled by stop:p8; stop r3 cancelled;
       |                       | emit stream/function.finished#r3:finished; emit stream/function.cancelled#r3:cancelled
    120 | tick                 | cancelled r2 !run-cancelled; stop r2 cancelled;
       |                       | emit stream/function.finished#r2:finished; emit stream/function.cancelled#r2:cancelled
    121 | rows GateRun         | 1
    121 | rows GateWaiter      | 0
    """


def _apply(tables: Tables, record: Input) -> list[Send]:
    changes = transition(tables, record, 10)
    tables.apply(changes)
    return [change for change in changes.changes if isinstance(change, Send)]


def test_the_cost_of_a_grant_does_not_grow_with_the_queue() -> None:
    """A run that ends reads the first of those that wait, and none that have passed."""
    tables, gate = CountingTables(), Gate("limit", 1)
    ids = [run_id_at(10, run_hash("f", str(number))) for number in range(100)]
    for run_id in ids:
        _apply(tables, GateAsked(gate, run_id))
    tables.start_over()
    for place, (run_id, following) in enumerate(pairwise(ids[:51]), 1):
        granted = GateGranted(gate.id, following, place=place)
        assert [send.record for send in _apply(tables, GateLeft(gate.id, run_id))] == [granted]
    assert tables.scanned[GATE_QUEUE.prefix] <= 50 * 16


def test_many_grants_at_once_are_separate_inputs() -> None:
    """A limit raised from 1 to 1,000,000 lets a bounded number pass; each starts its run in a batch that has space."""
    tables, most = Tables(), DEFAULT_LIMITS.waits_per_match_max
    ids = [run_id_at(10, run_hash("f", str(number))) for number in range(most + 3)]
    for run_id in ids[:-1]:
        _apply(tables, GateAsked(Gate("limit", 1), run_id))
    sent = _apply(tables, GateAsked(Gate("limit", 1_000_000), ids[-1]))
    granted = [GateGranted("limit\x00", run_id, place=place) for place, run_id in enumerate(ids[1:], 1)]
    assert [send.record for send in sent] == granted[:most]
    assert all(send.later for send in sent)
    ((key, _),) = due_timers(tables, 10)
    assert [send.record for send in _apply(tables, Tick(key))] == granted[most:]


@table()
def test_a_shared_limit_that_loses_its_period_gets_its_permits_back() -> None:
    """A run that asked when the limit counted starts has a permit once it passes later, and returns it.

    10 | function f on=go named=x:1:1000    | -
    10 | event go                           | began r1 f queued; admitted r1 after 0; start r1
    10 | event go                           | began r2 f queued
    11 | function f on=go concurrency=1::x  | -
    12 | event go                           | began r3 f queued; admitted r2 after 2; start r2
    13 | return r1 =1                       | completed r1 =1; emit stream/function.finished#r1:finished
    14 | return r2 =1                       | completed r2 =1; emit stream/function.finished#r2:finished;
       |                                    | admitted r3 after 2; start r3
    15 | return r3 =1                       | completed r3 =1; emit stream/function.finished#r3:finished
    16 | rows GateRun                       | 0
    """
