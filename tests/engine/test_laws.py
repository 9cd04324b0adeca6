"""Laws of the engine for random sequences of records: pure, idempotent, within its shard, and cheap."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.contract.codec import NULL, Raw, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.functions import EventTrigger, FunctionRegistered
from stepstream.contract.ids import run_hash, run_id_at, shard_of
from stepstream.contract.inbox import (
    CancelRequested,
    RunClaimed,
    RunFailed,
    RunLeased,
    RunPostponed,
    RunReturned,
    SignalSent,
    StepFailed,
    StepReported,
    StepsPlanned,
)
from stepstream.contract.outcomes import ErrorInfo, Value
from stepstream.contract.plans import SignalPlan, SleepPlan, WaitBranch, WaitPlan
from stepstream.contract.progress import HeartbeatReported
from stepstream.contract.topics import INBOX
from stepstream.engine.state.changes import Changes, Put, Send
from stepstream.engine.state.records import EventReceived, Input, Tick
from stepstream.engine.state.tables import TABLES
from stepstream.engine.transition import due_timers, transition
from tests.fakes.tables import Tables

FUNCTION = FunctionRegistered("f", "app", (EventTrigger("go"),), lookback_ms=400)
HASH = run_hash("f", "e")
RUN = run_id_at(5, HASH)
ERROR = ErrorInfo("ValueError", "no")


class World:
    """Shards in memory; records between them are applied at once, in order."""

    def __init__(self, shards: int) -> None:
        self.shards = shards
        self.tables = [Tables() for _ in range(shards)]
        self.sent: list[tuple[str, bytes]] = []

    def take(self, record: Input, now: int, shard: int) -> None:
        """Fold a record and all that it sends to shards, and check the laws for each."""
        queue: list[tuple[Any, int]] = [(record, shard)]
        while queue:
            value, at = queue.pop(0)
            changes = transition(self.tables[at], value, now, shard=at, shards=self.shards)
            again = transition(self.tables[at], value, now, shard=at, shards=self.shards)
            assert changes == again, "the same input gave other changes"
            self.check_homes(changes, at)
            self.tables[at].apply(changes)
            for change in changes.changes:
                if isinstance(change, Send) and change.topic == INBOX:
                    queue.append((change.record, change.partition))
                elif isinstance(change, Send):
                    self.sent.append((change.topic, encode(change.record)))

    def check_homes(self, changes: Changes, shard: int) -> None:
        """Changes touch only keys of the shard."""
        for change in changes.changes:
            routing = TABLES[change.key.table].routing_of(change.key, change.row) if isinstance(change, Put) else None
            assert routing is None or shard_of(routing, self.shards) == shard, change


def home(record: Input, shards: int) -> int:
    """Return the shard where a record from outside arrives."""
    match record:
        case SignalSent():
            return shard_of(record.signal, shards)
        case EventReceived():
            return 0
        case _:
            return shard_of(HASH, shards)


STEPS = st.sampled_from(["a" * 40, "b" * 40, "c" * 40])
EPOCHS = st.sampled_from([1, 1, 1, 2])
PROGRESS = st.sampled_from([NULL, Raw(b"1"), Raw(b"2")])
BRANCHES = (WaitBranch("a", "go", "data.id", lookback_ms=400), WaitBranch("b", "go", condition="async.data.id > 0"))
PLANS = st.one_of(
    st.builds(lambda step: SleepPlan(step, "nap", 500), STEPS),
    st.builds(lambda step: WaitPlan(step, "wait", "go", 300, match="data.id"), STEPS),
    st.builds(lambda step: WaitPlan(step, "wait", "go", 300, condition="async.data.id > 0"), STEPS),
    st.builds(lambda step: WaitPlan(step, "wait", "go", 300, match="data.id", lookback_ms=400), STEPS),
    st.builds(lambda step, every: WaitPlan(step, "any", "", 300, branches=BRANCHES, every=every), STEPS, st.booleans()),
    st.builds(lambda step: SignalPlan(step, "signal", "pager", 300), STEPS),
)
RECORDS: st.SearchStrategy[Input] = st.one_of(
    st.just(EventReceived(EventRecord("go", Raw(b'{"id":1}'), "e", 5), "events-0-0", 5)),
    st.just(EventReceived(EventRecord("go", Raw(b'{"id":1}')), "events-0-1", 6)),
    st.builds(lambda step, epoch: StepReported(RUN, epoch, step, "s", Value(Raw(b"1"))), STEPS, EPOCHS),
    st.builds(lambda step, epoch: StepFailed(RUN, epoch, step, "s", 0, 100, ERROR), STEPS, EPOCHS),
    st.builds(
        HeartbeatReported, st.just(RUN), EPOCHS, STEPS, st.just("s"), st.integers(0, 1), st.integers(0, 9), PROGRESS
    ),
    st.builds(lambda plans, epoch: StepsPlanned(RUN, epoch, tuple(plans)), st.lists(PLANS, max_size=3), EPOCHS),
    st.builds(lambda step: StepsPlanned(RUN, 1, (), (step,)), STEPS),
    st.just(RunClaimed(RUN, "worker-1", "app")),
    st.builds(lambda epoch, for_ms: RunLeased(RUN, epoch, for_ms), EPOCHS, st.sampled_from([0, 100])),
    st.builds(lambda epoch: RunPostponed(RUN, epoch, "no code", 100), EPOCHS),
    st.builds(lambda epoch: RunReturned(RUN, epoch, Raw(b"1")), EPOCHS),
    st.just(RunFailed(RUN, 1, ERROR, 0, 100)),
    st.just(RunFailed(RUN, 1, ERROR, 1)),
    st.just(SignalSent("pager")),
    st.just(CancelRequested(RUN)),
)
FIRST = EventReceived(EventRecord("go", Raw(b'{"id":1}'), "e", 5), "events-0-0", 5)
SEQUENCES = st.lists(st.tuples(RECORDS, st.integers(0, 200)), max_size=12)


def play(sequence: list[tuple[Input, int]], shards: int, *, twice: int = -1) -> World:
    """Fold a sequence as time passes; the record at place `twice` is delivered twice."""
    world = World(shards)
    for shard in range(shards):
        world.take(FUNCTION, 0, shard)
    world.take(FIRST, 10, 0)
    now = 10
    for place, (record, passed) in enumerate(sequence):
        now += passed
        for shard in range(shards):
            for key, _ in list(due_timers(world.tables[shard], now)):
                world.take(Tick(key), now, shard)
        for _ in range(2 if place == twice else 1):
            world.take(record, now, home(record, shards))
    return world


@settings(max_examples=150, deadline=None)
@given(SEQUENCES, st.sampled_from([1, 5]))
def test_transitions_are_pure_and_stay_in_their_shard(sequence: list[tuple[Input, int]], shards: int) -> None:
    """The same input gives the same changes, rows survive encoding, and changes concern only the shard's keys."""
    world = play(sequence, shards)
    assert any(topic == "history" for topic, _ in world.sent)


@settings(max_examples=150, deadline=None)
@given(SEQUENCES.filter(bool), st.integers(0, 11))
def test_a_report_twice_equals_once(sequence: list[tuple[Input, int]], place: int) -> None:
    """A record of a worker or a caller that arrives twice leaves the same state as once."""
    place %= len(sequence)
    if isinstance(sequence[place][0], EventReceived):
        return  # Its identity is its position, which no two records share.
    once, twice = play(sequence, 1), play(sequence, 1, twice=place)
    assert once.tables[0].rows == twice.tables[0].rows


@settings(max_examples=100, deadline=None)
@given(SEQUENCES)
def test_the_number_of_shards_changes_no_outcome(sequence: list[tuple[Input, int]]) -> None:
    """With 1 and with 5 shards the same commands, events and history leave the engine."""
    assert sorted(play(sequence, 1).sent) == sorted(play(sequence, 5).sent)


def test_a_report_costs_the_same_with_many_results() -> None:
    """A step report makes as many changes when the run has 998 results as when it has none."""
    world = World(1)
    world.take(FUNCTION, 0, 0)
    world.take(FIRST, 10, 0)
    costs = []
    for number in range(999):
        report = StepReported(RUN, 1, f"{number:040d}", "s", Value(Raw(b"1")))
        costs.append(len(transition(world.tables[0], report, 10).changes))
        world.take(report, 10, 0)
    assert costs[0] == costs[-1] == 3
