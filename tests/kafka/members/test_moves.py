"""Workers that join and leave, as in a rollout or when a scaler acts, do not restart running bodies."""

import asyncio
import os
from pathlib import Path

import pytest

from stepstream.contract.history import RunEnded
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from tests.kafka.cluster.fleet import Fleet, Member
from tests.kafka.cluster.history import read_histories, until_ended, until_registered
from tests.kafka.members.long_runs import APP, feed
from tests.polling import until

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.alone]
SHARDS = 4
JOINING = 3


async def until_moved(worker: Member, times: int) -> None:
    """Return when a worker has had a number of assignments."""
    await asyncio.to_thread(until, lambda: worker.said("assigned") >= times)


async def join_and_leave(fleet: Fleet, cluster: Cluster, gate: Path) -> None:
    """Block a body while workers join and one of them leaves, then release it."""
    fleet.add_engine()
    first = fleet.add_worker(LONG_GATE=str(gate), STEPSTREAM_INSTANCE="")
    await until_registered(cluster, SHARDS)
    await feed(cluster, range(1))
    started = gate.with_suffix(".started")
    await asyncio.to_thread(until, started.exists)
    moves = first.said("assigned")
    for number in range(1, JOINING + 1):
        joined = fleet.add_worker(LONG_GATE=str(gate), STEPSTREAM_INSTANCE="")
        await until_moved(joined, 1)
        await until_moved(first, moves + number)
    fleet.workers[1].stop()
    await until_moved(first, moves + JOINING + 1)
    await asyncio.to_thread(gate.write_text, "continue")
    await until_ended(cluster, 1)
    assert started.read_text().split() == [str(first.process.pid)] if first.process else False


async def outputs(cluster: Cluster) -> list[str]:
    """Return the status of each run that ended."""
    runs = await read_histories(cluster)
    return [entry.status for entries in runs.values() for entry in entries if isinstance(entry, RunEnded)]


def test_rebalance_does_not_restart_a_running_body(bootstrap: str, tmp_path: Path) -> None:
    """The body runs once, although its partition moves; its run continues at the partition's new worker."""
    os.mkfifo(tmp_path / "gate")
    with Fleet(bootstrap, "moves", tmp_path, APP) as fleet:
        cluster = Cluster(KafkaSettings(bootstrap, "moves"))
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "long")
        try:
            asyncio.run(join_and_leave(fleet, cluster, tmp_path / "gate"))
            assert asyncio.run(outputs(cluster)) == ["completed"]
        finally:
            for worker in fleet.workers:
                worker.kill()
