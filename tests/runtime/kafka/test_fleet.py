"""The shards of one process: readiness, release at a rebalance, and isolation of failures."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from stepstream import App, Context, on
from stepstream.contract.codec import encode
from stepstream.contract.events import event_record
from stepstream.contract.history import RunEnded, decode_history
from stepstream.contract.ids import run_hash, shard_of
from stepstream.contract.topics import EVENTS, HISTORY
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.embedded.log import EmbeddedBackbone, EmbeddedLog
from stepstream.runtime.kafka import fleet
from stepstream.runtime.kafka.fleet import ShardGroup, ShardGroupOptions
from stepstream.runtime.ports import LogError, NewRecord, StoredRow, StoreError
from stepstream.runtime.registrations import registrations
from stepstream.runtime.storage.journal import MemoryJournal, MemoryStore
from stepstream.runtime.supervision import keep_serving
from stepstream.runtime.worker.options import WorkerOptions
from stepstream.runtime.worker.worker import Worker
from tests.fakes.cluster import FakeCluster
from tests.fakes.waiting import until

SHARDS = 2
EVENT_IDS = [f"go-{number}" for number in range(12)]
Break = Callable[["Ports"], None]
app = App("shop")


@app.function(on("go"))
async def work(ctx: Context) -> str:
    """Run one step."""
    return await ctx.step.run("only", str, "done")


class Ports:
    """The ports of one shard, which a test has fail, wait, or take long to close."""

    def __init__(self, log: EmbeddedLog) -> None:
        self.log = log
        self.store = MemoryStore()
        self.changelog_left = 0
        self.broken_changelog = self.broken_tables = False
        self.recovers, self.closes = asyncio.Event(), asyncio.Event()
        self.recovers.set()
        self.closes.set()
        self.opened = 0
        self.closed: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)

    async def changelog(self, position: int) -> AsyncIterator[tuple[list[StoredRow], int]]:
        """Yield the rows once the test allows it."""
        self.opened += 1
        await self.recovers.wait()
        if self.broken_changelog:
            raise LogError("the changelog cannot be read")
        async for found in self.log.changelog(position):
            yield found

    async def close(self) -> None:
        """Close the log once the test allows it."""
        await self.closes.wait()
        await self.log.close()
        self.closed.append("log")

    def tables(self) -> "Tables":
        """Return the tables."""
        return Tables(self)


class Tables:
    """The tables of one shard."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ports.store, name)

    def open(self) -> int:
        """Open them, unless the test has made them unreadable."""
        self._ports.opened += 1
        if self._ports.broken_tables:
            raise StoreError("the tables cannot be opened")
        return self._ports.store.open()

    def close(self) -> None:
        """Note the release of their lock."""
        self._ports.closed.append("tables")


class Process:
    """An engine process to which the test assigns shards, and a worker."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        clock, self.journal = SystemClock(), MemoryJournal(SHARDS)
        self.backbone = EmbeddedBackbone(self.journal, clock, SHARDS)
        self.ports = [Ports(EmbeddedLog(self.journal, clock, shard)) for shard in range(SHARDS)]
        self.cluster = FakeCluster()
        self.shards = ShardGroup(self.cluster, clock, ShardGroupOptions(SHARDS, folder))
        monkeypatch.setattr(fleet, "KafkaLog", lambda _cluster, _clock, shard: self.ports[shard])
        monkeypatch.setattr(self.shards, "_tables", lambda shard: self.ports[shard].tables())
        self.worker = Worker(self.backbone.worker_log("shop"), app, WorkerOptions(clock))
        self.serving = asyncio.gather(self.shards.serve(), self.worker.serve())

    async def __aenter__(self) -> "Process":
        await until(lambda: self.cluster.membership)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.serving.cancel()
        await asyncio.gather(self.serving, return_exceptions=True)

    @property
    def up(self) -> list[int]:
        """The shards that serve."""
        return [state.shard for state in self.shards.states() if state.serving]

    def ended(self) -> int:
        """Return how many runs have ended."""
        records = [record for at in range(SHARDS) for record in self.journal.read(HISTORY, at, 0, 1_000)]
        return sum(isinstance(decode_history(record.value), RunEnded) for record in records)


async def test_process_is_ready_when_every_shard_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not ready while one of two shards still recovers."""
    async with Process(tmp_path, monkeypatch) as process:
        process.ports[1].recovers.clear()
        await process.cluster.assign(0, 1)
        await until(lambda: process.ports[1].opened == 2 and process.up == [0])
        assert process.shards.unready
        process.ports[1].recovers.set()
        await until(lambda: not process.shards.unready)


async def test_rebalance_waits_until_a_shard_has_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next owner may use the same disk, so the tables and the log must be closed first."""
    async with Process(tmp_path, monkeypatch) as process:
        await process.cluster.assign(0, 1)
        await until(lambda: not process.shards.unready)
        process.ports[0].closes.clear()
        revoked = asyncio.ensure_future(process.cluster.revoke(0))
        for _ in range(20):
            await asyncio.sleep(0)
        assert (revoked.done(), process.ports[0].closed) == (False, ["tables"])
        process.ports[0].closes.set()
        await revoked
        assert process.ports[0].closed == ["tables", "log"]
        assert (process.shards.assigned, process.ports[1].closed) == ([1], [])


def break_changelog(ports: Ports) -> None:
    """Make the changelog unreadable."""
    ports.broken_changelog = True


def break_tables(ports: Ports) -> None:
    """Make the tables unreadable."""
    ports.broken_tables = True


@pytest.mark.parametrize("harm", [break_changelog, break_tables])
async def test_failure_of_one_shard_does_not_affect_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, harm: Break
) -> None:
    """The failing shard restarts repeatedly; the other one ends its runs, and the process is not ready."""
    monkeypatch.setattr(fleet, "keep_serving", functools.partial(keep_serving, restart_s=0.0))
    async with Process(tmp_path, monkeypatch) as process:
        harm(process.ports[1])
        await process.backbone.append(registrations([app], []))
        await process.cluster.assign(0, 1)
        await until(lambda: process.up == [0])
        events = [encode(event_record("go", {}, id=event_id)) for event_id in EVENT_IDS]
        await process.backbone.append([NewRecord(EVENTS, 0, b"", event) for event in events])
        ours = [event_id for event_id in EVENT_IDS if shard_of(run_hash("work", event_id), SHARDS) == 0]
        assert 0 < len(ours) < len(EVENT_IDS)
        await until(lambda: process.ended() == len(ours))
        attempts = process.ports[1].opened
        await until(lambda: process.ports[1].opened > attempts + 1)
        assert process.shards.unready
        process.ports[1].broken_changelog = process.ports[1].broken_tables = False
        await until(lambda: process.ended() == len(EVENT_IDS) and not process.shards.unready)
