"""Batches of events, as record tables: the first run gets the events of all, and the others end as skipped."""

from stepstream.contract.codec import Raw, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.gates import BatchedRun, Excess, Gate, GateAsked, GateGranted, GateLeft
from stepstream.contract.history import RunBatched
from stepstream.contract.ids import StepRef, run_hash, run_id_at
from stepstream.contract.inbox import AnswersContinued, RunRequested
from stepstream.contract.limits import EVENTS_PER_BATCH_BYTES_MAX, EVENTS_PER_BATCH_MAX, MIB, Limits
from stepstream.contract.outcomes import Value
from stepstream.contract.topics import CHANGELOG, INBOX, payload_bytes_max
from stepstream.engine.state.changes import Put, Send
from stepstream.engine.state.records import Input
from stepstream.engine.state.rows import Run, RunEvents
from stepstream.engine.state.tables import run_key
from stepstream.engine.transition import transition
from tests.engine.tables import table
from tests.fakes.tables import Tables

GATE = Gate("batch", 1, period_ms=100, excess=Excess.BATCHED, size=EVENTS_PER_BATCH_MAX)
RUNS = [run_id_at(10, run_hash("f", str(number))) for number in range(EVENTS_PER_BATCH_MAX)]


@table()
def test_the_first_run_of_a_full_batch_has_all_events() -> None:
    """The others end as skipped, and nothing of the batch is left. The next event begins another one.

    10  | function f on=go batch=3:100 | -
    10  | event go e1      | began r1 f queued
    20  | event go e2      | began r2 f queued
    30  | event go e3      | began r3 f queued; batched r1 e1,e2,e3; admitted r1 after 20; start r1;
        |                  | skipped r2 !batched; skipped r3 !batched
    31  | count runs_refused f batched | 2
    31  | rows GateState   | 0
    31  | rows GateRun     | 0
    31  | rows GateWaiter  | 0
    31  | rows RunEvents   | 1
    50  | event go e4      | began r4 f queued
    110 | tick             | -
    150 | tick             | admitted r4 after 100; start r4
    151 | rows GateState   | 0
    """


@table()
def test_a_batch_begins_at_the_latest_after_its_timeout() -> None:
    """It counts from the first event; each value of the key has its own batch.

    10  | function f on=go batch=3:100:event.data.k | -
    10  | event go {"k":1} e1 | began r1 f queued
    60  | event go {"k":2} e2 | began r2 f queued
    90  | event go {"k":1} e3 | began r3 f queued
    109 | tick                | -
    110 | tick                | batched r1 e1,e3; admitted r1 after 100; start r1; skipped r3 !batched
    160 | tick                | admitted r2 after 100; start r2
    """


@table()
def test_an_event_for_which_the_condition_is_false_runs_alone() -> None:
    """At once, and so does one for which the condition fails.

    10 | function f on=go batch=2:100::event.data.n>0 | -
    10 | event go {"n":1} e1 | began r1 f queued
    11 | event go {"n":0} e2 | began r2 f; start r2
    12 | event go e3         | began r3 f; start r3
    12 | count gate_key_errors | 1
    13 | event go {"n":2} e4 | began r4 f queued; batched r1 e1,e4; admitted r1 after 3; start r1; skipped r4 !batched
    """


@table()
def test_a_debounce_may_keep_all_events() -> None:
    """The first run has them once no other event came for a period; each value of the key has its own.

    10  | function f on=go gather=9:50::event.data.k | -
    10  | event go {"k":1} e1 | began r1 f queued
    40  | event go {"k":1} e2 | began r2 f queued
    50  | event go {"k":2} e3 | began r3 f queued
    60  | tick                | -
    80  | event go {"k":1} e4 | began r4 f queued
    99  | tick                | -
    100 | tick                | admitted r3 after 50; start r3
    129 | tick                | -
    130 | tick                | batched r1 e1,e2,e4; admitted r1 after 120; start r1; skipped r2 !batched;
        |                     | skipped r4 !batched
    131 | count runs_refused f batched | 2
    131 | rows GateState      | 0
    140 | event go {"k":1} e5 | began r5 f queued
    190 | tick                | admitted r5 after 50; start r5
    """


@table()
def test_a_debounce_of_all_events_ends_after_its_timeout() -> None:
    """Exactly so long after the first event, also if that one was cancelled; or when it has as many as it may.

    10  | function f on=go gather=4:50:70 | -
    10  | event go e1 | began r1 f queued
    40  | event go e2 | began r2 f queued
    50  | cancel r1   | cancelled r1 !run-cancelled; stop r1 cancelled;
        |             | emit stream/function.finished#r1:finished; emit stream/function.cancelled#r1:cancelled
    70  | event go e3 | began r3 f queued
    79  | tick        | -
    80  | tick        | batched r2 e2,e3; admitted r2 after 40; start r2; skipped r3 !batched
    90  | event go e4 | began r4 f queued
    91  | event go e5 | began r5 f queued
    92  | event go e6 | began r6 f queued
    93  | event go e7 | began r7 f queued; batched r4 e4,e5,e6,e7; admitted r4 after 3; start r4;
        |             | skipped r5 !batched; skipped r6 !batched; skipped r7 !batched
    93  | rows GateState | 0
    """


@table()
def test_a_longer_debounce_of_all_events_counts_for_runs_that_wait() -> None:
    """From the next event on; the time of the first one stays.

    10  | function f on=go gather=9:100     | -
    10  | event go e1                       | began r1 f queued
    20  | function f on=go gather=9:200:250 | -
    20  | event go e2                       | began r2 f queued
    110 | tick                              | -
    200 | event go e3                       | began r3 f queued
    259 | tick                              | -
    260 | tick                              | batched r1 e1,e2,e3; admitted r1 after 250; start r1; skipped r2 !batched;
        |                                   | skipped r3 !batched
    """


@table()
def test_a_cancelled_run_is_in_no_batch() -> None:
    """The next run takes the place of the first; the time still counts from the first event.

    10  | function f on=go batch=5:100 | -
    10  | event go e1 | began r1 f queued
    20  | event go e2 | began r2 f queued
    30  | event go e3 | began r3 f queued
    40  | event go e4 | began r4 f queued
    50  | cancel r1   | cancelled r1 !run-cancelled; stop r1 cancelled;
        |             | emit stream/function.finished#r1:finished; emit stream/function.cancelled#r1:cancelled
    60  | cancel r3   | cancelled r3 !run-cancelled; stop r3 cancelled;
        |             | emit stream/function.finished#r3:finished; emit stream/function.cancelled#r3:cancelled
    110 | tick        | batched r2 e2,e4; admitted r2 after 90; start r2; skipped r4 !batched
    111 | rows GateRun | 0
    """


@table(Limits(waits_per_match_max=1))
def test_each_caller_gets_the_result_of_the_batch() -> None:
    """Also if the run continues as new. The answers are sent in portions.

    10 | function f batch=2:100    | -
    10 | function g on=go          | -
    10 | event go                  | began r1 g; start r1
    10 | event go                  | began r2 g; start r2
    11 | plan r1 invoke:a:f:900    | planned a until 911; began r3 f queued
    12 | plan r2 invoke:a:f:900    | planned a until 912; began r4 f queued; batched r3 r1:a,r2:a;
       |                           | admitted r3 after 1; start r3; skipped r4 !batched
    20 | continue r3 {"n":1}       | completed r3 =null; emit stream/function.finished#r3:finished;
       |                           | began r5 f continues r3#1; start r5
    30 | return r5 =7              | completed r5 =7; emit stream/function.finished#r5:finished;
       |                           | kept a=7; resume r1 a=7; kept a=7; resume r2 a=7
    """


@table()
def test_a_batch_does_not_end_with_one_of_its_callers() -> None:
    """A run that still waits for its batch does.

    10 | function f batch=2:100         | -
    10 | function g on=go               | -
    10 | event go                       | began r1 g; start r1
    10 | event go                       | began r2 g; start r2
    11 | plan r1 invoke:a:f:900:cancel  | planned a until 911; began r3 f queued
    12 | plan r2 invoke:a:f:900:cancel  | planned a until 912; began r4 f queued; batched r3 r1:a,r2:a;
       |                                | admitted r3 after 1; start r3; skipped r4 !batched
    13 | plan r2 invoke:b:f:900:cancel  | planned b until 913; began r5 f queued
    14 | return r1 =1                   | completed r1 =1; emit stream/function.finished#r1:finished
    15 | return r2 =2                   | completed r2 =2; emit stream/function.finished#r2:finished;
       |                                | cancelled r5 !run-cancelled; stop r5 cancelled;
       |                                | emit stream/function.finished#r5:finished;
       |                                | emit stream/function.cancelled#r5:cancelled
    16 | return r3 =3                   | completed r3 =3; emit stream/function.finished#r3:finished
    16 | rows Child                     | 0
    """


@table()
def test_a_batch_passes_the_limits_of_its_function_as_one_run() -> None:
    """Each event counts for the limits before, and for those behind it only the run that has the events.

    10  | function f on=go idempotency=event.data.id:1000 rate=3:1000:9 batch=2:50 throttle=1:100 | -
    10  | event go {"id":1} e1 | began r1 f queued
    10  | event go {"id":1} e2 | began r2 f queued; skipped r2 !idempotent
    11  | event go {"id":2} e3 | began r3 f queued; batched r1 e1,e3; skipped r3 !batched;
        |                      | admitted r1 after 1; start r1
    12  | event go {"id":2} e4 | began r4 f queued; skipped r4 !idempotent
    13  | event go {"id":3} e5 | began r5 f queued
    14  | event go {"id":4} e6 | began r6 f queued; batched r5 e5,e6; skipped r6 !batched
    111 | tick                 | admitted r5 after 98; start r5
    """


@table()
def test_batches_of_a_paused_function_start_when_it_is_resumed() -> None:
    """They are made meanwhile; a paused run waits for its own end, with the events of the others.

    10 | function f on=go batch=2:50 | -
    10 | pause-scope function:f      | -
    11 | event go e1                 | began r1 f queued
    12 | event go e2                 | began r2 f queued; batched r1 e1,e2; admitted r1 after 1; skipped r2 !batched
    20 | resume-scope function:f     | reload r1
    21 | event go e3                 | began r3 f queued
    22 | pause r3                    | paused by ann until 0
    23 | event go e4                 | began r4 f queued; batched r3 e3,e4; admitted r3 after 2; skipped r4 !batched
    24 | unpause r3                  | unpaused by ann; reload r3
    """


@table()
def test_repetitions_and_signals_start_without_a_batch() -> None:
    """A signal belongs to its own run, and a person asked for the rerun of one.

    10 | function f on=go batch=2:50              | -
    10 | event go e1                              | began r1 f queued
    11 | event go e2                              | began r2 f queued; batched r1 e1,e2; admitted r1 after 1; start r1;
       |                                          | skipped r2 !batched
    12 | rerun r2 f q1 go e2                      | began r3 f of r2; start r3
    13 | signal-or-start s f =1 id=e4 reply=me    | reply me started r4; began r4 f; start r4
    """


@table()
def test_a_smaller_batch_of_the_next_release_counts_at_once() -> None:
    """Runs that wait are spread over batches of the new size.

    10 | function f on=go batch=9:50 | -
    10 | event go e1                 | began r1 f queued
    11 | event go e2                 | began r2 f queued
    12 | event go e3                 | began r3 f queued
    13 | function f on=go batch=2:50 | -
    14 | event go e4                 | began r4 f queued; batched r1 e1,e2; admitted r1 after 4; start r1;
       |                             | skipped r2 !batched
    14 | tick                        | batched r3 e3,e4; admitted r3 after 2; start r3; skipped r4 !batched
    15 | rows GateState              | 0
    """


def batched(number: int, size: int = 0, chain: int = 0) -> BatchedRun:
    """Return a run of a batch whose event has so many bytes and a few more, and its caller."""
    event = EventRecord("go", Raw(b'{"text":"%s"}' % (b"x" * size)), f"e{number:03}")
    return BatchedRun(RUNS[number], event, StepRef(RUNS[number], "a" * 40), chain)


def ask(tables: Tables, number: int, size: int = 0) -> list[Send]:
    """Let a run ask for the batch; return what is sent."""
    return applied(tables, GateAsked(GATE, RUNS[number], batched=batched(number, size)))


def applied(tables: Tables, record: Input) -> list[Send]:
    """Apply a record; return what is sent."""
    changes = transition(tables, record, 10)
    tables.apply(changes)
    return [change for change in changes.changes if isinstance(change, Send)]


def runs_of(sent: list[Send]) -> list[list[str]]:
    """Return the runs of each batch that begins."""
    grants = [send.record for send in sent if isinstance(send.record, GateGranted)]
    return [[grant.run_id, *(other.run_id for other in grant.others)] for grant in grants]


def test_a_run_that_asks_twice_is_once_in_its_batch() -> None:
    """The second request changes nothing."""
    tables = Tables()
    ask(tables, 0)
    rows = dict(tables.rows)
    assert ask(tables, 0) == []
    assert tables.rows == rows


def test_a_batch_begins_before_it_would_be_too_large() -> None:
    """An event that does not fit begins the next one, and one that fills a batch alone starts at once."""
    tables, third = Tables(), EVENTS_PER_BATCH_BYTES_MAX // 3
    assert ask(tables, 0, third) == ask(tables, 1, third) == []
    assert runs_of(ask(tables, 2, third)) == [RUNS[:2]]
    assert runs_of(ask(tables, 3, EVENTS_PER_BATCH_BYTES_MAX)) == [[RUNS[2]], [RUNS[3]]]
    assert not tables.rows


def test_a_run_that_leaves_makes_space_in_its_batch() -> None:
    """Its event no longer counts."""
    tables, third = Tables(), EVENTS_PER_BATCH_BYTES_MAX // 3
    ask(tables, 0, third)
    ask(tables, 1, third)
    applied(tables, GateLeft(GATE.id, RUNS[0]))
    assert ask(tables, 2, third) == []
    assert runs_of(ask(tables, 3, third)) == [RUNS[1:3]]


def test_the_next_run_has_the_batch_of_one_that_has_ended() -> None:
    """A cancellation crossed the grant: the event of that run is not executed, and those of the others are."""
    others = (batched(1), batched(2))
    (sent,) = applied(Tables(), GateGranted(GATE.id, RUNS[0], others=others))
    assert sent.record == GateGranted(GATE.id, RUNS[1], others=others[1:])
    assert applied(Tables(), GateGranted(GATE.id, RUNS[1])) == []


def test_the_largest_batch_fits_into_rows_and_records() -> None:
    """It has as many events and bytes as it may, and a caller for each of them."""
    tables = Tables()
    size = EVENTS_PER_BATCH_BYTES_MAX // EVENTS_PER_BATCH_MAX - len(encode(batched(0).event))
    (grant,) = [send.record for number in range(EVENTS_PER_BATCH_MAX) for send in ask(tables, number, size)]
    assert isinstance(grant, GateGranted)
    assert len(encode(grant)) < payload_bytes_max(INBOX)
    begin(tables, batched(0, size))
    changes = transition(tables, grant, 10).changes
    sent = [change for change in changes if isinstance(change, Send)]
    (entry,) = [send.record for send in sent if isinstance(send.record, RunBatched)]
    assert len(entry.events) == EVENTS_PER_BATCH_MAX
    assert all(len(encode(send.record)) < payload_bytes_max(send.topic) for send in sent)
    rows = [change.row for change in changes if isinstance(change, Put)]
    assert any(isinstance(row, RunEvents) and len(row.callers) == EVENTS_PER_BATCH_MAX - 1 for row in rows)
    assert all(len(encode(row)) < payload_bytes_max(CHANGELOG) for row in rows)


def begin(tables: Tables, first: BatchedRun) -> None:
    """Begin a run that waits for the batch."""
    applied(tables, RunRequested(first.run_id, "f", "app", (first.event,), gates=(GATE,)))


def test_a_batch_is_as_deep_in_a_chain_as_its_deepest_run() -> None:
    """Otherwise runs that start one another through batches would never reach the limit of a chain."""
    tables = Tables()
    begin(tables, batched(0))
    applied(tables, GateGranted(GATE.id, RUNS[0], others=(batched(1, chain=7), batched(2, chain=3))))
    run = tables.get(run_key(RUNS[0]))
    assert isinstance(run, Run)
    assert run.chain == 7


def test_large_results_of_a_batch_are_sent_a_few_at_a_time() -> None:
    """A result of 4 MiB for each of a thousand callers does not fit into one transaction."""
    callers = tuple(StepRef(run, "a") for run in RUNS)
    sent = applied(Tables(), AnswersContinued(RUNS[0], callers, Value(Raw(b'"%s"' % (b"x" * 4 * MIB)))))
    *answers, later = (send.record for send in sent)
    assert len(answers) == 3
    assert isinstance(later, AnswersContinued)
    assert later.callers == callers[3:]
