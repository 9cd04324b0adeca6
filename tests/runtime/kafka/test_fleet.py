"""The shards of one process: readiness, release at a rebalance, and isolation of failures."""

import asyncio
import functools
from pathlib import Path

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
from stepstream.runtime.ports import LogError, NewRecord, StoreError
from stepstream.runtime.registrations import registrations
from stepstream.runtime.storage.journal import MemoryJournal, MemoryStore
from stepstream.runtime.supervision import keep_serving
from stepstream.runtime.worker.options import WorkerOptions
from stepstream.runtime.worker.worker import Worker
from tests.fakes.cluster import FakeCluster
from tests.fakes.shard_log import FakeLog, FakeStore
from tests.fakes.waiting import iterate, until

SHARDS = 2
EVENT_IDS = [f"go-{number}" for number in range(12)]
app = App("shop")


@app.function(on("go"))
async def work(ctx: Context) -> str:
    """Run one step."""
    return await ctx.step.run("only", str, "done")


class Process:
    """An engine process to which the test assigns shards, and a worker."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        clock, self.journal = SystemClock(), MemoryJournal(SHARDS)
        self.backbone = EmbeddedBackbone(self.journal, clock, SHARDS)
        self.logs = [FakeLog(EmbeddedLog(self.journal, clock, shard)) for shard in range(SHARDS)]
        self.stores = [FakeStore(MemoryStore()) for _ in range(SHARDS)]
        self.cluster = FakeCluster()
        self.shards = ShardGroup(self.cluster, clock, ShardGroupOptions(SHARDS, folder))
        monkeypatch.setattr(fleet, "KafkaLog", lambda _cluster, _clock, shard, _shards: self.logs[shard])
        monkeypatch.setattr(self.shards, "_tables", lambda shard: self.stores[shard])
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
        process.logs[1].calls.block("changelog")
        await process.cluster.assign(0, 1)
        await until(lambda: process.logs[1].calls.count["changelog"] and process.up == [0])
        assert process.shards.unready
        process.logs[1].calls.allow("changelog")
        await until(lambda: not process.shards.unready)


async def test_shards_are_served_during_a_rebalance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rebalance revokes all shards; those that are assigned again have not stopped, and the process stays ready."""
    async with Process(tmp_path, monkeypatch) as process:
        await process.cluster.assign(0, 1)
        await until(lambda: not process.shards.unready)
        await process.cluster.revoke(0, 1)
        assert (process.up, process.shards.unready) == ([0, 1], "")
        await process.cluster.assign(1)
        assert (process.up, process.logs[0].closed, process.logs[1].calls.count["changelog"]) == ([1], True, 1)


async def test_shard_that_fails_during_a_rebalance_restarts_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then it may be assigned to another engine, which it would fence."""
    monkeypatch.setattr(fleet, "keep_serving", functools.partial(keep_serving, restart_s=0.0))
    async with Process(tmp_path, monkeypatch) as process:
        await process.cluster.assign(0, 1)
        await until(lambda: not process.shards.unready)
        await process.cluster.revoke(0, 1)
        process.logs[0].calls.fail("send", LogError("fenced"))
        await process.backbone.append(registrations([app], []))
        await until(lambda: process.up == [1])
        process.logs[0].calls.allow("send")
        await iterate(20)
        assert process.logs[0].calls.count["changelog"] == 1
        await process.cluster.assign(0)
        await until(lambda: process.up == [0])


async def test_assignment_waits_until_a_shard_has_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A warm copy opens the same tables next, so the tables and the log must be closed first."""
    async with Process(tmp_path, monkeypatch) as process:
        await process.cluster.assign(0, 1)
        await until(lambda: not process.shards.unready)
        log, store = process.logs[0], process.stores[0]
        log.calls.block("close")
        await process.cluster.revoke(0, 1)
        assigned = asyncio.ensure_future(process.cluster.assign(1))
        await iterate(20)
        assert (assigned.done(), store.closed, log.closed) == (False, True, False)
        log.calls.allow("close")
        await assigned
        assert log.closed
        assert (process.shards.assigned, process.stores[1].closed, process.logs[1].closed) == ([1], False, False)


@pytest.mark.parametrize(
    ("call", "error"), [("changelog", LogError("no broker answers")), ("open", StoreError("the tables are corrupt"))]
)
async def test_failure_of_one_shard_does_not_affect_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, error: Exception
) -> None:
    """The failing shard restarts repeatedly; the other one ends its runs, and the process is not ready."""
    monkeypatch.setattr(fleet, "keep_serving", functools.partial(keep_serving, restart_s=0.0))
    async with Process(tmp_path, monkeypatch) as process:
        calls = process.logs[1].calls if call == "changelog" else process.stores[1].calls
        calls.fail(call, error)
        await process.backbone.append(registrations([app], []))
        await process.cluster.assign(0, 1)
        await until(lambda: process.up == [0])
        events = [encode(event_record("go", {}, id=event_id)) for event_id in EVENT_IDS]
        await process.backbone.append([NewRecord(EVENTS, 0, b"", event) for event in events])
        ours = [event_id for event_id in EVENT_IDS if shard_of(run_hash("work", event_id), SHARDS) == 0]
        assert 0 < len(ours) < len(EVENT_IDS)
        await until(lambda: process.ended() == len(ours))
        await calls.until(call, more=2)
        assert process.shards.unready
        calls.allow(call)
        await until(lambda: process.ended() == len(EVENT_IDS) and not process.shards.unready)
