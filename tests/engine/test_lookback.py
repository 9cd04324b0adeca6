"""A wait that looks back meets very many kept events bit by bit, and nobody can tell: the order of the log decides."""

from collections import deque
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.contract.codec import Raw, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.functions import EventTrigger, FunctionRegistered
from stepstream.contract.ids import run_routing, shard_of
from stepstream.contract.inbox import InboxRecord, decode_inbox
from stepstream.contract.limits import HOUR_MS, MIB, Limits
from stepstream.contract.matching import EventMatched, EventRouted, LookBackContinued, Predicate, WaitOpened
from stepstream.engine.matching import match_budget as meeting
from stepstream.engine.state.changes import Put, Send
from stepstream.engine.state.keys import Key
from stepstream.engine.state.rows import Row
from stepstream.engine.state.tables import KEPT_EVENTS, LOOK_BACKS, TABLES, WAITS, kept_number
from stepstream.engine.transition import transition
from tests.engine.predicates import BUCKETS, EVENT, wait_closed, wait_opened
from tests.fakes.tables import Tables

KEEPS = FunctionRegistered("f", "app", (EventTrigger("go"),), lookback_ms=HOUR_MS)


class CountingTables(Tables):
    """Tables that count the kept events that they hand out."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def scan(self, table: bytes, part: bytes, limit: int = 0, after: bytes = b"") -> list[tuple[Key[Any], Row]]:
        """Return the rows of a part."""
        found = super().scan(table, part, limit, after)
        self.read += len(found) * (table == KEPT_EVENTS.prefix)
        return found


class World:
    """Shards with a log each, and runs that take the first event for their wait and tell the matcher that it is over.

    With `doubled` each record by which a look-back goes on comes two times.
    """

    def __init__(self, at_once: int = 500, shards: int = 1, *, doubled: bool = False) -> None:
        self.limits = Limits(waits_per_match_max=at_once)
        self.shards = shards
        self.doubled = doubled
        self.tables = [CountingTables() for _ in range(shards)]
        self.logs: list[deque[bytes]] = [deque() for _ in range(shards)]
        self.waits: dict[str, WaitOpened] = {}
        self.woken: dict[str, str] = {}
        self.now = 10
        self.events = 0
        self.most = 0
        for tables in self.tables:
            tables.apply(transition(tables, KEEPS, self.now))

    def send(self, record: InboxRecord, shard: int = -1) -> None:
        """Append a record to the log of a shard, by default the one that owns the name."""
        self.logs[shard_of(EVENT, self.shards) if shard < 0 else shard].append(encode(record))

    def event(self, number: int, big: int, *, text: str = "") -> None:
        """Have an event come, and be kept; the first has the id e1."""
        self.events += 1
        data = Raw(f'{{"id":{number},"big":{big},"text":"{text}"}}'.encode())
        self.send(EventRouted(EventRecord(EVENT, data, f"e{self.events}", self.now)))

    def wait(self, run_id: str, predicate: Predicate, *, lookback_from: int = 1, trigger: str = "") -> None:
        """Have a run wait."""
        self.waits[run_id] = wait_opened(run_id, predicate, 10**9, lookback_from, trigger)
        self.send(self.waits[run_id])

    def close(self, run_id: str) -> None:
        """Have a run wait no longer."""
        self.send(wait_closed(run_id, self.waits[run_id].predicate, looking_back=True))

    def go_on(self, passes: int = -1) -> None:
        """Let each shard take so many records of its log, or all that there are and come."""
        while passes and any(self.logs):
            for shard, log in enumerate(self.logs):
                if log:
                    self.take(decode_inbox(log.popleft()), shard)
            passes -= 1
            self.now += 1

    def take(self, record: InboxRecord, shard: int) -> None:
        """Fold a record and what follows from it at once."""
        queue: deque[InboxRecord] = deque([record])
        tables = self.tables[shard]
        while queue:
            tables.read = 0
            changes = transition(tables, queue.popleft(), self.now, shard=shard, shards=self.shards, limits=self.limits)
            self.most = max(self.most, tables.read)
            for put in changes.changes:
                home = TABLES[put.key.table].routing_of(put.key, put.row) if isinstance(put, Put) else None
                assert home is None or shard_of(home, self.shards) == shard
            tables.apply(changes)
            for change in changes.changes:
                if not isinstance(change, Send):
                    continue
                sent: InboxRecord = change.record  # type: ignore[assignment]  # What goes to the inbox is one.
                if isinstance(sent, EventMatched):
                    assert change.partition == shard_of(run_routing(sent.run_id), self.shards)
                    assert sent.run_id not in self.woken
                    self.woken[sent.run_id] = sent.event.id
                    self.close(sent.run_id)
                elif change.later or change.partition != shard:
                    for _ in range(1 + (self.doubled and isinstance(sent, LookBackContinued))):
                        self.send(sent, change.partition)
                else:
                    queue.append(sent)

    def left(self, table: bytes) -> int:
        """Return how many rows of a table there are."""
        return sum(key.table == table for tables in self.tables for key in tables.rows)


WAITING = st.tuples(st.just("wait"), st.integers(0, 9), st.sampled_from(BUCKETS))
EVENTS = st.tuples(st.just("event"), st.integers(1, 2), st.integers(1, 2))
PASSES = st.tuples(st.just("pass"), st.integers(1, 3), st.none())
SCRIPTS = st.lists(st.one_of(WAITING, EVENTS, EVENTS, EVENTS, PASSES), max_size=40)


def play(script: list[tuple[str, int, object]], world: World) -> World:
    """Play a script to its end: events with an id and a size, waits of runs by number, and passes of the logs."""
    for what, number, more in script:
        world.now += 1
        if what == "event":
            world.event(number, int(str(more)))
        elif what == "pass":
            world.go_on(number)
        elif f"run{number}" not in world.waits:
            assert isinstance(more, Predicate)
            world.wait(f"run{number}", more)
    world.go_on()
    return world


@settings(max_examples=200, deadline=None)
@given(SCRIPTS, st.integers(1, 4), st.sampled_from([1, 5]), st.booleans())
def test_looking_back_bit_by_bit_is_looking_back_at_once(
    script: list[tuple[str, int, object]], at_once: int, shards: int, doubled: bool
) -> None:
    """Each wait is ended by the first event that fulfils it, kept or later, however few of them one record may meet.

    A record by which a look-back goes on may come twice.
    """
    whole, cut = play(script, World(1_000)), play(script, World(at_once, shards, doubled=doubled))
    assert whole.woken == cut.woken
    assert (cut.left(LOOK_BACKS.prefix), cut.left(WAITS.prefix)) == (0, whole.left(WAITS.prefix))


def kept(count: int, at_once: int = 500) -> World:
    """Return a world in which so many events were kept, none of which is `big`, but the last."""
    world = World(at_once)
    for number in range(count):
        world.event(1, 2 if number == count - 1 else 1)
    world.go_on()
    world.most = 0
    return world


def test_one_record_meets_a_bounded_number_of_kept_events() -> None:
    """Of 1,200 kept events a wait meets 500 in one go, few more are read, and the last of them is found."""
    world = kept(1_200)
    world.wait("r", BUCKETS[3])
    world.go_on(1)
    assert not world.woken
    world.go_on()
    assert world.woken == {"r": "e1200"}
    assert world.most <= 500 + 64


def test_events_before_the_window_are_not_read() -> None:
    """A look-back begins with the first kept event that it may see."""
    world = kept(100)
    world.now = 1_000
    world.event(1, 2)
    world.go_on()
    world.wait("r", BUCKETS[3], lookback_from=1_000)
    world.most = 0
    world.go_on()
    assert world.woken == {"r": "e101"}
    assert world.most == 1


def test_large_kept_events_are_met_a_few_at_once() -> None:
    """One record meets 4 MiB of events, and one event in any case."""
    world = World()
    for _ in range(40):
        world.event(1, 1, text="x" * MIB)
    world.go_on()
    world.most = 0
    world.wait("r", BUCKETS[3])
    world.go_on()
    assert not world.woken
    assert world.most <= 16


def test_the_work_of_expressions_is_bounded() -> None:
    """An expression that takes thousands of visits meets fewer events in one go."""
    world = kept(100)
    costly = Predicate(residual=f"[{','.join('1' * 100)}].exists(x, async.data.big > x)")
    with mock.patch.object(meeting, "MATCHED_VISITS_PER_RECORD_MAX", 1_000):
        world.wait("r", costly)
        world.go_on(10)
        assert not world.woken
        world.go_on()
        assert world.woken == {"r": "e100"}


@pytest.mark.parametrize("shards", [1, 5])
def test_an_event_that_comes_meanwhile_waits_for_the_kept_ones(shards: int) -> None:
    """It ends the wait when no kept one does, and only then; what comes after it is nothing to the wait."""
    for big, woken in ((1, "e6"), (2, "e5")):
        world = World(1, shards)
        for number in range(5):
            world.event(1, big if number == 4 else 1)
        world.go_on()
        world.wait("r", Predicate(residual="async.data.big > 1"))
        world.go_on(2)
        world.now = 500
        world.event(9, 2)
        world.event(8, 2)
        world.go_on(2)
        assert not world.woken
        world.go_on()
        assert world.woken == {"r": woken}
        assert (world.left(LOOK_BACKS.prefix), world.left(WAITS.prefix)) == (0, 0)


@pytest.mark.parametrize("predicate", BUCKETS[:4])
@pytest.mark.parametrize("shards", [1, 5])
def test_a_wait_that_is_over_looks_back_no_further(predicate: Predicate, shards: int) -> None:
    """When its time is over, or its run ends, nothing of it is left and no kept event is met any more."""
    world = World(1, shards)
    for _ in range(9):
        world.event(2, 1)
    world.event(1, 2)
    world.go_on()
    world.wait("r", predicate)
    world.go_on(3)
    assert world.left(LOOK_BACKS.prefix) == 1
    world.close("r")
    world.go_on(3)
    assert (world.left(LOOK_BACKS.prefix), world.left(WAITS.prefix)) == (0, 0)
    world.go_on()
    assert not world.woken


def test_a_window_is_of_the_time_when_an_event_came() -> None:
    """A shard was with an engine whose clock is an hour ahead: no event becomes younger by that, and none is lost."""
    world = World()
    ahead, world.now = world.now + HOUR_MS, world.now
    transitions = (ahead, world.now + 1, world.now + HOUR_MS // 2)
    for world.now in transitions:
        world.event(1, 1)
        world.go_on()
    world.wait("late", Predicate(), lookback_from=world.now - 60_000)
    world.go_on()
    assert world.woken == {"late": "e1"}
    world.now = transitions[2]
    world.wait("later", Predicate((("data.big", "n2"),)), lookback_from=1)
    world.go_on()
    assert "later" not in world.woken


def test_a_clock_that_goes_back_changes_no_order() -> None:
    """The next machine's clock may be behind: events are met as they came."""
    world = World(1)
    for now in (900, 100, 100):
        world.now = now
        world.event(1, 2)
        world.go_on()
    numbers = [kept_number(key) for key in sorted(world.tables[0].rows) if key.table == KEPT_EVENTS.prefix]
    assert numbers == [1, 2, 3]
    world.wait("r", BUCKETS[4])
    world.go_on()
    assert world.woken == {"r": "e1"}
