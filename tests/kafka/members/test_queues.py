"""A queue with its own workers on real Kafka: who runs what, and what is left when one of them is killed."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from stepstream.contract.history import RunEnded, decode_history
from stepstream.contract.topics import EVENTS, HISTORY
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import NewRecord
from tests.kafka.cluster.fleet import ROOT, Fleet, Member
from tests.kafka.cluster.history import until_registered
from tests.polling import WAIT_S_MAX, until

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.alone]
SHARDS = 2
ASK_S = 0.1
APP = Path(__file__).with_name("queue_app.py")


async def until_effects(fleet: Fleet, count: int) -> list[list[str]]:
    """Return the lines that bodies appended, as soon as there are enough."""
    never = asyncio.Event()
    async with asyncio.timeout(WAIT_S_MAX):
        while True:
            lines = fleet.effects.read_text().splitlines() if fleet.effects.exists() else []
            if len(lines) >= count:
                return [line.split() for line in lines]
            try:
                async with asyncio.timeout(ASK_S):
                    await never.wait()
            except TimeoutError:
                continue


async def send(cluster: Cluster, number: int) -> None:
    """Start a run; a step of run 0 blocks on a worker with QUEUES_HOLD."""
    producer = await cluster.producer()
    event = {"name": "queues/go", "data": {"n": number}}
    await producer.send([NewRecord(EVENTS, -1, b"", json.dumps(event).encode())])
    await producer.close()


async def ends_of(cluster: Cluster, runs: int) -> list[RunEnded]:
    """Return the ends of runs, as soon as there are enough."""
    found: list[RunEnded] = []
    reader = await cluster.reader()
    try:
        places = [(HISTORY, shard) for shard in range(SHARDS)]
        reader.assign(places)
        reader.seek(dict.fromkeys(places, 0))
        async with asyncio.timeout(WAIT_S_MAX):
            while len(found) < runs:
                entries = [decode_history(record.value) for record in await reader.read(100, 500)]
                found += [entry for entry in entries if isinstance(entry, RunEnded)]
        return found
    finally:
        await reader.close()


def pid(member: Member) -> str:
    """Return the process id of a member."""
    assert member.process
    return str(member.process.pid)


async def kill_the_worker_of_the_queue(fleet: Fleet, cluster: Cluster) -> None:
    """Kill the worker of the queue in a step; its successor runs the step, and the app's worker the others."""
    gate = fleet.folder / "gate"
    os.mkfifo(gate)
    fleet.add_engine()
    own, holding = fleet.add_worker(), fleet.add_worker("--queue", "gpu", QUEUES_HOLD=str(gate))
    await until_registered(cluster, SHARDS)
    await send(cluster, 0)
    held = await until_effects(fleet, 2)
    assert held == [["first", pid(own)], ["there", pid(holding)]]
    holding.kill()
    del holding.environment["QUEUES_HOLD"]
    holding.start()
    effects = await until_effects(fleet, 4)
    assert effects[2:] == [["there", pid(holding)], ["last", pid(own)]]
    (end,) = await ends_of(cluster, 1)
    assert end.status == "completed"
    assert msgspec.json.decode(end.output) == [int(pid(own)), int(pid(holding)), int(pid(own))]
    holding.stop()
    await drain_the_worker_of_the_queue(fleet, cluster, gate)


async def drain_the_worker_of_the_queue(fleet: Fleet, cluster: Cluster, gate: Path) -> None:
    """Drain a worker of the queue in a step, which ends there; its successor runs all others."""
    options, own = ("--queue", "gpu", "--drain-s", "120"), {"QUEUES_HOLD": str(gate), "STEPSTREAM_INSTANCE": ""}
    pool = [fleet.add_worker(*options, **own) for _ in range(2)]
    await asyncio.to_thread(until, lambda: all(worker.said("partitions [") for worker in pool))
    await send(cluster, 0)
    *_, (step, at) = await until_effects(fleet, 6)
    (leaving,) = [worker for worker in pool if pid(worker) == at]
    assert step == "there"
    assert leaving.process
    leaving.process.terminate()
    await asyncio.to_thread(until, lambda: bool(leaving.said("left the group of commands.queues.gpu")))
    await send(cluster, 1)
    await ends_of(cluster, 2)
    assert not leaving.ended
    await asyncio.to_thread(gate.write_text, "continue")
    assert {end.status for end in await ends_of(cluster, 3)} == {"completed"}
    effects = await until_effects(fleet, 10)
    assert [at for step, at in effects[5:] if step == "there"] == [pid(leaving), pid(pool[leaving is pool[0]])]
    assert await asyncio.to_thread(leaving.process.wait, WAIT_S_MAX) == 0


def test_steps_run_on_the_workers_of_their_queue(bootstrap: str, tmp_path: Path) -> None:
    """A worker of the app runs its steps, one of the queue the others; no worker starts without the queue's topic."""
    with Fleet(bootstrap, "queues", tmp_path, APP) as fleet:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "queues")
        options = ["--kafka", bootstrap, "--namespace", "queues"]
        command = [sys.executable, "-m", "stepstream", "worker", str(APP), *options]
        refused = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert refused.returncode == 2
        assert "queues.commands.queues.gpu' is missing; run `stepstream topics apply --kafka" in refused.stderr
        assert "--app queues --app queues.gpu`" in refused.stderr
        fleet.command("topics", "apply", "--app", "queues", "--app", "queues.gpu")
        asyncio.run(kill_the_worker_of_the_queue(fleet, Cluster(KafkaSettings(bootstrap, "queues"))))
