"""A batch is bounded by bytes and by time, so that no commit exceeds the transaction timeout of a broker."""

import asyncio
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
from stepstream.engine.state.tables import TIMERS, timer_due
from stepstream.engine.state.view import scan_table
from stepstream.host.deadletters.dead_letter import dead_letter_of
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.embedded.log import EmbeddedLog
from stepstream.runtime.ports import LogRecord, NewRecord
from stepstream.runtime.shard.loop import Shard
from stepstream.runtime.shard.tables import StoreView
from stepstream.runtime.storage.journal import JournalWrite, MemoryJournal, MemoryStore
from tests.fakes.clock import TickingClock
from tests.fakes.shard_log import FakeLog

COMMANDS = commands_topic("shop")
DUE = 5_000


class World:
    """One shard in memory, and the records that are written to it."""

    def __init__(self) -> None:
        self.journal = MemoryJournal()
        self.store = MemoryStore()
        self.clock = VirtualClock(1_000)

    def put(self, *records: InboxRecord) -> None:
        """Write records to the inbox."""
        new = [NewRecord(INBOX, 0, b"", encode(record)) for record in records]
        self.journal.write(JournalWrite(new), self.clock.now_ms())

    async def serve(self) -> list[int]:
        """Serve until the shard is idle; return the bytes of each transaction."""
        log = FakeLog(EmbeddedLog(self.journal, self.clock, 0))
        shard = Shard(log, self.store, self.clock)
        serving = asyncio.ensure_future(shard.serve())
        idle = 0
        while idle < 3:
            await asyncio.sleep(0)
            due = shard.due is not None and shard.due <= self.clock.now_ms()
            idle = 0 if not shard.serving or log.unread() or not log.notification.waited_for or due else idle + 1
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        return [transaction.bytes for transaction in log.transactions]

    def read(self, topic: str) -> list[LogRecord]:
        """Return the records of a topic."""
        return self.journal.read(topic, 0, 0, self.journal.end(topic, 0))


def run_of(number: int) -> str:
    """Return the id of a run."""
    return run_id_at(1_000, run_hash("f", str(number)))


async def test_large_runs_that_are_due_at_once_start_in_bounded_batches() -> None:
    """For 100 runs with events of 500 KiB, a commit has at most 16 MiB and one more start."""
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


async def test_batch_is_bounded_by_time() -> None:
    """Inputs that are each within their bounds add up; a shard must commit before its process misses a heartbeat."""
    worlds = World(), World()
    worlds[1].clock = TickingClock(1_000, BATCH_MS_MAX // 5)
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


async def test_unmatched_events_do_not_block_the_event_loop() -> None:
    """A backlog of them needs no commit, and other tasks of the process still run in between."""
    world = World()
    world.clock = TickingClock(1_000, BATCH_MS_MAX // 5)
    world.put(*(EventRouted(EventRecord("unmatched", ts=1), 1) for _ in range(100)))
    shard = Shard(EmbeddedLog(world.journal, world.clock, 0), world.store, world.clock)
    serving = asyncio.ensure_future(shard.serve())
    left = list[int]()
    for _ in range(200):
        await asyncio.sleep(0)
        left += [len(shard._rest)] if shard._rest else []
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert len(set(left)) >= 100 // 6
    assert max(before - after for before, after in pairwise(left)) <= 5


async def test_runs_whose_lease_expires_are_loaded_in_bounded_batches() -> None:
    """After a worker was killed during its drain, each of its runs was claimed twice when its lease expires."""
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


async def test_timer_that_cannot_fire_becomes_a_dead_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fires again later, and does not block the shard. The dead letter has its row and cannot be redriven."""
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
    (found,) = map(dead_letter_of, world.read(DEAD_LETTERS))
    assert (found.topic, found.partition, found.reason) == ("?", -1, "ValueError: a bug")
    assert run_of(1).encode() in found.record.value
    ((retried, _),) = scan_table(StoreView(world.store), TIMERS)
    assert timer_due(retried) > DUE
