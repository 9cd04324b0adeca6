"""A batch has an end by its bytes, whatever falls due at once: no commit takes longer than a broker waits."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest

from stepstream.contract.codec import Raw, encode
from stepstream.contract.commands import RunLoaded, RunStarted, decode_command
from stepstream.contract.events import EventRecord
from stepstream.contract.ids import run_hash, run_id_at, step_hash
from stepstream.contract.inbox import InboxRecord, RunClaimed, RunLeased, RunRequested, StepReported
from stepstream.contract.limits import BATCH_BYTES_MAX, BATCH_MS_MAX, MIB
from stepstream.contract.matching import EventRouted
from stepstream.contract.outcomes import Value
from stepstream.contract.topics import DEAD_LETTERS, INBOX, commands_topic
from stepstream.engine import transition as engine
from stepstream.engine.runs.runs import fire_run
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.tables import TIMERS
from stepstream.host.deadletters.dead_letter import dead_letter_of
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.embedded.log import EmbeddedLog
from stepstream.runtime.ports import LogRecord, NewRecord, StoredRow
from stepstream.runtime.shard.loop import Shard
from stepstream.runtime.storage.journal import JournalWrite, MemoryJournal, MemoryStore

COMMANDS = commands_topic("shop")
DUE = 5_000


class Sized(EmbeddedLog):
    """A shard's log that notes the bytes of each transaction."""

    def __init__(self, journal: MemoryJournal, clock: VirtualClock) -> None:
        super().__init__(journal, clock, 0)
        self.commits: list[int] = []

    async def send(self, records: Sequence[NewRecord], rows: Sequence[StoredRow]) -> None:
        """Note, and go on."""
        sizes = [len(record.key) + len(record.value) for record in records]
        self.commits.append(sum(sizes) + sum(len(key) + len(value or b"") for key, value in rows))
        await super().send(records, rows)


class World:
    """One shard in memory and what is written to it."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.store = MemoryStore()
        self.clock = VirtualClock(1_000)

    def put(self, *records: InboxRecord) -> None:
        """Write records to the inbox."""
        new = [NewRecord(INBOX, 0, b"", encode(record)) for record in records]
        self.journal.write(JournalWrite(new), self.clock.now_ms())

    async def serve(self) -> list[int]:
        """Serve until nothing is left to do now; return the bytes of each transaction."""
        log = Sized(self.journal, self.clock)
        shard = Shard(log, self.store, self.clock)
        serving = asyncio.ensure_future(shard.serve())
        still = 0
        while still < 3:
            await asyncio.sleep(0)
            due = shard.due is not None and shard.due <= self.clock.now_ms()
            still = 0 if not shard.serving or log.unread() or not log.notification.waited_for or due else still + 1
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        return log.commits

    def read(self, topic: str) -> list[LogRecord]:
        """Return what is in a topic."""
        return self.journal.read(topic, 0, 0, self.journal.end(topic, 0))


def run_of(number: int) -> str:
    """Return the id of a run."""
    return run_id_at(1_000, run_hash("f", str(number)))


async def test_large_runs_that_are_due_at_once_start_in_bounded_batches() -> None:
    """100 events of 500 KiB for one moment of the future: a commit has 16 MiB and what one more start has."""
    world = World()
    for number in range(100):
        event = EventRecord("go", Raw(b'{"x":"' + b"x" * 500 * 1024 + b'"}'), ts=DUE)
        world.put(RunRequested(run_of(number), "f", "shop", (event,), start_at=DUE))
    await world.serve()
    world.clock.advance_to(DUE)
    commits = await world.serve()
    assert max(commits) < BATCH_BYTES_MAX + MIB
    assert sum(commits) > 3 * BATCH_BYTES_MAX
    started = [decode_command(record.value) for record in world.read(COMMANDS)]
    assert [type(command) for command in started] == [RunStarted] * 100


class SlowMachine(VirtualClock):
    """A clock of a machine on which time passes between any two looks at it, each of which is counted."""

    def now_ms(self) -> int:
        """Return the time, which goes on."""
        self.advance_to(super().now_ms() + BATCH_MS_MAX // 5)
        return super().now_ms()


async def test_a_batch_has_an_end_by_its_time() -> None:
    """Inputs that are each within their bounds add up: a shard commits before its process misses a heartbeat."""
    worlds = World(), World()
    worlds[1].clock = SlowMachine(1_000)
    commits = list[int]()
    for world in worlds:
        world.put(*(RunRequested(run_of(n), "f", "shop", (EventRecord("go"),)) for n in range(40)))
        world.put(*(RunRequested(run_of(100 + n), "f", "shop", (EventRecord("go"),), start_at=DUE) for n in range(40)))
        commits.append(len(await world.serve()))
        world.clock.advance_to(max(DUE, world.clock.now_ms()))
        commits.append(len(await world.serve()))
        assert len(world.read(COMMANDS)) == 80
    quick, quick_timers, slow, _ = commits
    assert (quick, quick_timers) == (1, 1)
    assert slow >= 80 // 5


async def test_what_changes_nothing_leaves_others_their_turn() -> None:
    """A backlog of events that nobody hears is no commit, and still others of the process come to their turn."""
    world = World()
    world.clock = SlowMachine(1_000)
    world.put(*(EventRouted(EventRecord("nobody", ts=1), 1) for _ in range(100)))
    shard = Shard(Sized(world.journal, world.clock), world.store, world.clock)
    serving = asyncio.ensure_future(shard.serve())
    left = list[int]()
    for _ in range(200):
        await asyncio.sleep(0)
        left += [len(shard._rest)] if shard._rest else []
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert len(set(left)) >= 100 // 6
    assert max(before - after for before, after in pairwise(left)) <= 5


async def test_what_was_reserved_is_loaded_in_bounded_batches() -> None:
    """A worker is killed in its drain: each of its runs has been asked for by others, twice, and the time is over."""
    world, result = World(), Value(Raw(b'"' + b"x" * 2 * MIB + b'"'))
    for number in range(15):
        run_id = run_of(number)
        world.put(
            RunRequested(run_id, "f", "shop", (EventRecord("go"),)),
            StepReported(run_id, 1, step_hash("a", 0), "a", result),
            RunLeased(run_id, 1, DUE),
            RunClaimed(run_id, "first", "shop"),
            RunClaimed(run_id, "second", "shop"),
        )
    await world.serve()
    world.clock.advance_to(1_000 + DUE)
    commits = await world.serve()
    assert max(commits) < BATCH_BYTES_MAX + 3 * MIB
    loaded = [decode_command(record.value) for record in world.read(COMMANDS)]
    assert sum(isinstance(command, RunLoaded) for command in loaded) == 30


async def test_a_timer_that_cannot_fire_is_put_aside(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would be due for ever, and nothing else be done: its row is kept as a letter, which nobody can send again."""
    world = World()
    for number in range(3):
        world.put(RunRequested(run_of(number), "f", "shop", (EventRecord("go"),), start_at=DUE))
    await world.serve()

    def failing(draft: Draft, run_id: str) -> Any:
        if run_id == run_of(1):
            raise ValueError("a bug")
        return fire_run(draft, run_id)

    monkeypatch.setattr(engine, "fire_run", failing)
    world.clock.advance_to(DUE)
    await world.serve()
    assert len(world.read(COMMANDS)) == 2
    (letter,) = map(dead_letter_of, world.read(DEAD_LETTERS))
    assert (letter.topic, letter.partition, letter.reason) == ("?", -1, "ValueError: a bug")
    assert run_of(1).encode() in letter.record.value
    assert world.store.scan(TIMERS.prefix, 0) == []
