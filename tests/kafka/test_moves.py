"""Workers that join and leave on a real broker, as in each roll-out and each step of a scaler, begin no body again."""

import asyncio
import os
from pathlib import Path

import pytest

from stepstream.contract.history import RunEnded
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.settings import KafkaSettings
from tests.kafka.broker import running_broker
from tests.kafka.fleet import Fleet, Member
from tests.kafka.judging import Ledger, until_ended, until_registered
from tests.kafka.long_runs import APP, feed
from tests.kafka.observed import until

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
SHARDS = 4
JOINING = 3


async def until_moved(worker: Member, times: int) -> None:
    """Return when a worker was given partitions so often."""
    await asyncio.to_thread(until, lambda: worker.said("assigned") >= times)


async def come_and_go(fleet: Fleet, cluster: Cluster, gate: Path) -> None:
    """Have a body at work while workers join and some of them leave, then let it end."""
    fleet.add_engine()
    first = fleet.add_worker(LONG_GATE=str(gate), STEPSTREAM_INSTANCE="")
    await until_registered(cluster, SHARDS)
    await feed(cluster, range(1))
    begun = gate.with_suffix(".begun")
    await asyncio.to_thread(until, begun.exists)
    moves = first.said("assigned")
    for number in range(1, JOINING + 1):
        joined = fleet.add_worker(LONG_GATE=str(gate), STEPSTREAM_INSTANCE="")
        await until_moved(joined, 1)
        await until_moved(first, moves + number)
    fleet.workers[1].stop()
    await until_moved(first, moves + JOINING + 1)
    await asyncio.to_thread(gate.write_text, "go on")
    await until_ended(cluster, 1)
    assert begun.read_text().split() == [str(first.process.pid)] if first.process else False


async def outputs(cluster: Cluster) -> list[str]:
    """Return how each run ended."""
    ledger = Ledger(cluster)
    try:
        await ledger.catch_up()
    finally:
        await ledger.close()
    return [entry.status for entries in ledger.runs.values() for entry in entries if isinstance(entry, RunEnded)]


def test_workers_that_come_and_go_begin_no_body_that_is_at_work(tmp_path: Path) -> None:
    """It is begun once, wherever its partition is by then; its run goes on, and ends, where that is."""
    os.mkfifo(tmp_path / "gate")
    with running_broker() as bootstrap, Fleet(bootstrap, "moves", tmp_path, APP) as fleet:
        cluster = Cluster(KafkaSettings(bootstrap, "moves"))
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "long")
        try:
            asyncio.run(come_and_go(fleet, cluster, tmp_path / "gate"))
            assert asyncio.run(outputs(cluster)) == ["completed"]
        finally:
            for worker in fleet.workers:
                worker.kill()
