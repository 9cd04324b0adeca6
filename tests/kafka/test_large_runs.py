"""The largest results and runs on a real broker: written, recovered, and loaded by another worker."""

import asyncio
import json
import shutil
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest

from stepstream.contract.history import RunEnded, StepPlanned, decode_history
from stepstream.contract.topics import EVENTS, HISTORY
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import NewRecord
from tests.kafka.cluster.fleet import Fleet
from tests.kafka.cluster.history import Tail, until_registered
from tests.kafka.large_app import LENGTH, STEPS

pytestmark = [pytest.mark.kafka, pytest.mark.long]
E = TypeVar("E", RunEnded, StepPlanned)
SHARDS = 2
WAIT_S_MAX = 180.0
APP = Path(__file__).with_name("large_app.py")


async def until_entry(cluster: Cluster, kind: type[E]) -> E:
    """Return the first entry of history of a kind, as soon as it exists."""
    tail = Tail(cluster, HISTORY)
    try:
        async with asyncio.timeout(WAIT_S_MAX):
            while True:
                for record in await tail.read():
                    entry = decode_history(record.value)
                    if isinstance(entry, kind):
                        return entry
    finally:
        await tail.close()


async def produce(cluster: Cluster, name: str) -> None:
    """Append an event."""
    producer = await cluster.producer()
    await producer.send([NewRecord(EVENTS, -1, b"", json.dumps({"name": name}).encode())])
    await producer.close()


async def observe(fleet: Fleet, cluster: Cluster) -> None:
    """Let a run grow, kill both processes, delete the disk, and let their successors continue."""
    engine, worker = fleet.add_engine(), fleet.add_worker()
    await until_registered(cluster, SHARDS)
    await produce(cluster, "large/go")
    await until_entry(cluster, StepPlanned)
    worker.kill()
    engine.kill()
    shutil.rmtree(fleet.folder / engine.name)
    engine.start()
    worker.start()
    await produce(cluster, "large/on")
    end = await until_entry(cluster, RunEnded)
    assert (end.status, msgspec.json.decode(end.output)) == ("completed", STEPS * LENGTH)


def test_run_of_32_mib_moves_to_another_worker(bootstrap: str, tmp_path: Path) -> None:
    """Eight results of 4 MiB pass the inbox and the changelog, and all of them go to a worker that has none."""
    with Fleet(bootstrap, "large", tmp_path, APP) as fleet:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "large")
        asyncio.run(observe(fleet, Cluster(KafkaSettings(bootstrap, "large"))))
