"""Cancellation by events, as record tables: a run is cancelled wherever it is, once, and leaves no wait behind."""

from stepstream.contract.codec import Raw, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.history import RunEnded
from stepstream.contract.ids import Bucket, StepRef
from stepstream.contract.limits import DAY_MS, PATH_USED_MS
from stepstream.contract.matching import EventForwarded, EventMatched, Predicate, WaitPlaced
from stepstream.engine.state.changes import Send
from stepstream.engine.transition import transition
from tests.engine.tables import Line, World, table
from tests.fakes.tables import Tables


@table()
def test_an_event_cancels_the_runs_that_it_matches() -> None:
    """The end names the event, calls no failure handler, and removes the waits of the run; other runs continue.

    10 | function f on_failure=h on=go cancel_on=stop:data.id | -
    10 | function h                  | -
    10 | event go {"id":1}           | began r1 f; start r1
    10 | event go {"id":2}           | began r2 f; start r2
    11 | rows Wait                   | 2
    11 | event stop {"id":3}         | -
    12 | event stop {"id":1} e1      | cancelled r1 !run-cancelled by stop:e1; stop r1 cancelled;
       |                             | emit stream/function.finished#r1:finished;
       |                             | emit stream/function.cancelled#r1:cancelled
    12 | count runs_cancelled f event | 1
    13 | report r1 a =1              | -
    13 | event stop {"id":1}         | -
    14 | rows Wait                   | 1
    15 | return r2 =1                | completed r2 =1; emit stream/function.finished#r2:finished
    15 | rows Wait                   | 0
    15 | rows Timer                  | 0
    """


@table()
def test_an_event_cancels_a_run_in_each_state() -> None:
    """Scheduled, waiting and with a dispatched step, between two attempts, paused, and invoked, whose caller knows.

    10 | function f on=go queues=gpu cancel_on=stop  | -
    10 | function g cancel_on=halt                   | -
    10 | event go ts=50                              | began r1 f for 50
    10 | event go                                    | began r2 f; start r2
    10 | event go                                    | began r3 f; start r3
    10 | event go                                    | began r4 f; start r4
    11 | plan r2 wait:a:come:99 sleep:b:99 run:c:gpu | planned a until 110; planned b until 99; planned c until 0;
       |                                             | dispatch r2 c#0
    11 | raise r3 retry=50                           | attempt 0 failed, next 61
    11 | pause r4 until=90                           | paused by ann until 90; reload r4
    12 | event stop c1                               | cancelled r4 !run-cancelled by stop:c1; stop r4 cancelled;
       |                                             | emit stream/function.finished#r4:finished;
       |                                             | emit stream/function.cancelled#r4:cancelled;
       |                                             | stop r2 c cancelled;
       |                                             | cancelled r2 !run-cancelled by stop:c1; stop r2 cancelled;
       |                                             | emit stream/function.finished#r2:finished;
       |                                             | emit stream/function.cancelled#r2:cancelled;
       |                                             | cancelled r3 !run-cancelled by stop:c1; stop r3 cancelled;
       |                                             | emit stream/function.finished#r3:finished;
       |                                             | emit stream/function.cancelled#r3:cancelled;
       |                                             | cancelled r1 !run-cancelled by stop:c1; stop r1 cancelled;
       |                                             | emit stream/function.finished#r1:finished;
       |                                             | emit stream/function.cancelled#r1:cancelled
    13 | event go                                    | began r5 f; start r5
    13 | plan r5 invoke:d:g:500                      | planned d until 513; began r6 g; start r6
    14 | event halt c1                               | cancelled r6 !run-cancelled by halt:c1; stop r6 cancelled;
       |                                             | emit stream/function.finished#r6:finished;
       |                                             | emit stream/function.cancelled#r6:cancelled;
       |                                             | kept d!run-cancelled; resume r5 d!run-cancelled
    15 | cancel r5                                   | cancelled r5 !run-cancelled; stop r5 cancelled;
       |                                             | emit stream/function.finished#r5:finished;
       |                                             | emit stream/function.cancelled#r5:cancelled
    15 | count runs_cancelled f request              | 1
    16 | rows Wait                                   | 0
    16 | rows Timer                                  | 0
    """


@table()
def test_only_an_event_after_the_admission_cancels_a_run() -> None:
    """An earlier event does not count, nor does the trigger, which may match its own rule.

    10 | function f on=stop cancel_on=stop;halt | -
    10 | event halt                             | -
    11 | event stop e1                          | began r1 f; start r1
    12 | event stop e2                          | began r2 f; start r2; cancelled r1 !run-cancelled by stop:e2;
       |                                        | stop r1 cancelled;
       |                                        | emit stream/function.finished#r1:finished;
       |                                        | emit stream/function.cancelled#r1:cancelled
    13 | event halt c1                          | cancelled r2 !run-cancelled by halt:c1; stop r2 cancelled;
       |                                        | emit stream/function.finished#r2:finished;
       |                                        | emit stream/function.cancelled#r2:cancelled
    14 | rows Wait                              | 0
    """


@table()
def test_an_event_cancels_within_the_time_of_its_rule() -> None:
    """Afterwards the rule is gone, and the others remain.

    10  | function f on=go cancel_on=stop::100;halt:?async.data.n>event.data.n:200 | -
    10  | event go {"n":1}    | began r1 f; start r1
    10  | event go {"n":1}    | began r2 f; start r2
    10  | rows Wait           | 4
    110 | event stop          | -
    110 | tick                | -
    110 | rows Wait           | 2
    111 | event halt {"n":1}  | -
    112 | return r2 =1        | completed r2 =1; emit stream/function.finished#r2:finished
    113 | event halt {"n":2} c1  | cancelled r1 !run-cancelled by halt:c1; stop r1 cancelled;
        |                     | emit stream/function.finished#r1:finished;
        |                     | emit stream/function.cancelled#r1:cancelled
    114 | event go {"n":1}    | began r3 f; start r3
    314 | tick                | -
    315 | rows Wait           | 0
    315 | rows Timer          | 0
    """


@table()
def test_rules_that_cannot_match_are_left_out() -> None:
    """A path that the trigger lacks never matches; a condition that cannot be evaluated is counted.

    10 | function f on=go cancel_on=stop:data.id;halt:?unknown.id | -
    10 | event go            | began r1 f; start r1
    10 | rows Wait           | 0
    10 | count cancel_on_errors | 1
    11 | event stop {"id":1} | -
    12 | event halt          | -
    """


@table()
def test_a_rerun_can_be_cancelled_too() -> None:
    """A rerun has the rules of its function.

    10 | function f on=go cancel_on=stop | -
    10 | event go e1                     | began r1 f; start r1
    11 | return r1 =1                    | completed r1 =1; emit stream/function.finished#r1:finished
    11 | event stop                      | -
    12 | rerun r1 f q1 go e1 a:=1        | began r2 f of r1; copied a=1; resume r2
    13 | event stop c1                   | cancelled r2 !run-cancelled by stop:c1; stop r2 cancelled;
       |                                 | emit stream/function.finished#r2:finished;
       |                                 | emit stream/function.cancelled#r2:cancelled
    13 | rows Wait                       | 0
    """


def test_the_reason_names_the_event() -> None:
    """History has the name and the id of the event that cancelled the run."""
    world = World(1)
    ended: list[RunEnded] = []
    leave = world.leave

    def note(change: Send, shard: int) -> str:
        if isinstance(change.record, RunEnded):
            ended.append(change.record)
        return leave(change, shard)

    world.leave = note  # type: ignore[method-assign]  # Only for this test.
    for record in ("function f on=go cancel_on=stop", "event go", "event stop e7"):
        world.play(Line(10, record, ""))
    (error,) = (entry.error for entry in ended)
    assert error is not None
    assert (error.code, error.message) == ("run-cancelled", "the run was cancelled by event stop (id e7)")


def test_a_wait_without_a_time_limit_is_renewed() -> None:
    """The path of the wait stays indexed for as long as the run is open, and is forgotten after its end."""
    world = World(1)
    for record in ("function f on=go cancel_on=stop:data.id", 'event go {"id":1}'):
        world.play(Line(10, record, ""))
    for now in range(10, 10 + 5 * PATH_USED_MS, DAY_MS):
        assert world.play(Line(now, "tick", "")) == []
        assert world.count_rows("EventName") == 1
    assert len(world.play(Line(now, 'event stop {"id":1}', ""))) == 4
    assert world.count_rows("Wait") == 0
    world.play(Line(now + PATH_USED_MS, "tick", ""))
    assert world.count_rows("EventName") == 0


def test_the_trigger_may_arrive_after_the_wait() -> None:
    """The matcher skips the event that started the run, also among events that it has queued."""
    tables, bucket, waiter = Tables(), Bucket("stop"), StepRef("r1", "cancel_on:0")
    tables.apply(transition(tables, WaitPlaced(waiter, bucket, Predicate(), 1_000, "e1"), 10))
    for event_id, matches in (("e1", 0), ("e2", 1)):
        event = EventRecord("stop", Raw(encode({})), event_id)
        changes = transition(tables, EventForwarded(event, bucket), 11)
        sent = [change.record for change in changes.changes if isinstance(change, Send)]
        assert [type(record) for record in sent] == [EventMatched] * matches
