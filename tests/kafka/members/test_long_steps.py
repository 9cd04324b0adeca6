"""A step that takes longer than two session timeouts blocks no other run, and its worker drains after it."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from stepstream import App, Context, on
from stepstream.contract.codec import encode
from stepstream.contract.commands import RunStarted
from stepstream.contract.events import event_record
from stepstream.contract.history import RunBegan, RunEnded, RunMoved
from stepstream.contract.ids import run_hash, run_id_at
from stepstream.contract.topics import commands_topic
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import SESSION_S, KafkaSettings
from stepstream.runtime.kafka.workers.worker_log import KafkaWorkerLog
from stepstream.runtime.ports import NewRecord
from stepstream.runtime.worker.options import WorkerOptions
from stepstream.runtime.worker.worker import Worker
from tests.kafka.cluster.fleet import Fleet
from tests.kafka.cluster.history import Runs, until_ended, until_registered
from tests.kafka.cluster.observed import Observed
from tests.kafka.members.long_runs import APP, feed
from tests.polling import WAIT_S_MAX, until

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.alone]
SHARDS = 2
OTHERS = 20
# A worker that gets more commands than it can take: its slots, the runs that it queues before it stops to poll, the
# commands that it gets, and the commands that one poll returns.
SLOTS, QUEUED, FLOOD, PER_POLL = 2, 8, 500, 64


def ended(runs: Runs) -> set[str]:
    """Return the ids of the events whose runs have completed."""
    found = set[str]()
    for entries in runs.values():
        if isinstance(entries[0], RunBegan) and isinstance(entries[-1], RunEnded):
            assert entries[-1].status == "completed"
            found.add(entries[0].events[0].id)
    return found


def moves(runs: Runs) -> int:
    """Return how often a worker took over a run from another."""
    return sum(isinstance(entry, RunMoved) for entries in runs.values() for entry in entries)


class Flooded:
    """A worker with so many commands and so few slots that it stops to poll."""

    def __init__(self, cluster: Cluster) -> None:
        self.gate = asyncio.Event()
        self.ran: list[int] = []
        app = App("flood")

        @app.function(on("flood/go"))
        async def work(ctx: Context) -> None:
            await ctx.step.run("hold", self.hold, ctx.event.data["n"])

        self.log = KafkaWorkerLog(cluster, "flood", SHARDS)
        self.worker = Worker(self.log, app, WorkerOptions(runs_active_max=SLOTS, runs_queued_max=QUEUED))

    async def hold(self, number: int) -> None:
        """Block the slot until the test releases all."""
        await self.gate.wait()
        self.ran.append(number)

    @property
    def full(self) -> bool:
        """Whether it has as many runs as it takes."""
        return self.worker.load.in_use == SLOTS and self.worker.load.queued >= QUEUED and self.log.feed.pending

    def check(self) -> None:
        """It is still the same member of the group, and has not polled most of the commands."""
        assert (self.log.assignments, self.log.member, self.ran) == (1, True, [])
        assert SLOTS + QUEUED <= self.worker.load.cached < SLOTS + QUEUED + PER_POLL
        assert 0 < sum(map(self.log.feed.waiting, self.log.partitions)) < 2 * PER_POLL

    async def finish(self) -> None:
        """Let all runs end; each command runs once."""
        self.gate.set()
        await asyncio.to_thread(until, lambda: len(self.ran) >= FLOOD)
        assert sorted(self.ran) == list(range(FLOOD))
        assert self.log.assignments == 1


@asynccontextmanager
async def flooded(cluster: Cluster) -> AsyncIterator[Flooded]:
    """Yield a worker of this process that has as many runs as it takes."""
    flood = Flooded(cluster)
    serving = asyncio.ensure_future(flood.worker.serve())
    try:
        await asyncio.to_thread(until, lambda: flood.log.member)
        events = [event_record("flood/go", {"n": number}) for number in range(FLOOD)]
        ids = [run_id_at(0, run_hash("work", str(number))) for number in range(FLOOD)]
        commands = [encode(RunStarted(run, "work", 1, (event,), 0)) for run, event in zip(ids, events, strict=True)]
        producer = await cluster.producer()
        await producer.send([NewRecord(commands_topic("flood"), -1, b"", command) for command in commands])
        await producer.close()
        await asyncio.to_thread(until, lambda: flood.full)
        yield flood
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def observe(fleet: Fleet, cluster: Cluster, gate: Path) -> None:
    """Block a step for two session timeouts, while its worker executes other runs and another worker is full."""
    fleet.add_engine()
    worker = fleet.add_worker("--metrics-port", "0", LONG_GATE=str(gate))
    await until_registered(cluster, SHARDS)
    with Observed(fleet) as observed:
        async with flooded(cluster) as flood:
            await feed(cluster, range(1))
            deadline = time.monotonic() + 2.2 * SESSION_S
            number = 1
            while time.monotonic() < deadline:
                await feed(cluster, range(number, number + OTHERS))
                number += OTHERS
                runs = await until_ended(cluster, number - 1)
                assert (ended(runs), moves(runs)) == ({f"long-{n}" for n in range(1, number)}, 0)
            assert observed.scrape(worker).sum("stepstream_rebalances_total", group="worker") == 1
            flood.check()
            await flood.finish()
        await asyncio.to_thread(gate.write_text, "continue")
        runs = await until_ended(cluster, number)
        assert ("long-0" in ended(runs), moves(runs)) == (True, 0)


async def drain(fleet: Fleet, cluster: Cluster, gate: Path) -> None:
    """Drain the worker of a blocked step: others get its other runs, and the rest of this run after the step."""
    fleet.add_engine()
    for _ in range(2):
        # A member without a static name leaves the group when it stops.
        fleet.add_worker("--drain-s", "120", LONG_GATE=str(gate), STEPSTREAM_INSTANCE="")
    await until_registered(cluster, SHARDS)
    await asyncio.to_thread(until, lambda: all(worker.said("partitions [") for worker in fleet.workers))
    await feed(cluster, range(1))
    started = gate.with_suffix(".started")
    # The file exists before it has its line.
    await asyncio.to_thread(until, lambda: started.exists() and started.read_text().endswith("\n"))
    (holder,) = [
        worker for worker in fleet.workers if worker.process and str(worker.process.pid) in started.read_text()
    ]
    assert holder.process
    holder.process.terminate()
    await asyncio.to_thread(until, lambda: bool(holder.said("running steps have 120 s to finish")))
    await feed(cluster, range(1, OTHERS))
    assert ended(await until_ended(cluster, OTHERS - 1)) == {f"long-{n}" for n in range(1, OTHERS)}
    assert (holder.said("left the group of commands.long"), holder.ended) == (1, False)
    await asyncio.to_thread(gate.write_text, "continue")
    runs = await until_ended(cluster, OTHERS)
    (entries,) = [each for each in runs.values() if isinstance(each[0], RunBegan) and each[0].events[0].id == "long-0"]
    assert await asyncio.to_thread(holder.process.wait, WAIT_S_MAX) == 0
    assert holder.said("all running steps have finished")
    end = entries[-1]
    assert isinstance(end, RunEnded)
    held, after = json.loads(bytes(end.output))
    others = {worker.process.pid for worker in fleet.workers if worker.process and worker is not holder}
    assert (held, {after}) == (holder.process.pid, others)
    assert started.read_text().split() == [str(holder.process.pid)]
    assert sum(isinstance(entry, RunMoved) for entry in entries) == 1


@pytest.mark.parametrize("scene", [observe, drain])
def test_long_step_blocks_no_other_run(
    bootstrap: str,
    tmp_path: Path,
    scene: Callable[[Fleet, Cluster, Path], Coroutine[Any, Any, None]],
) -> None:
    """Other runs continue on its worker, no run moves, and a draining worker waits for the step, which runs once.

    A worker whose slots are all blocked takes a bounded number of commands, and stays a member of its group.
    """
    os.mkfifo(tmp_path / "gate")
    namespace = f"long-{scene.__name__}"
    with Fleet(bootstrap, namespace, tmp_path, APP) as fleet:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "long", "--app", "flood")
        asyncio.run(scene(fleet, Cluster(KafkaSettings(bootstrap, namespace)), tmp_path / "gate"))
