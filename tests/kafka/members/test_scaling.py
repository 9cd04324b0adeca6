"""What a scaler sees of workers: the lag of their group, from the end offsets of the topic and committed offsets."""

import asyncio
from pathlib import Path

import pytest

from stepstream.contract.topics import commands_topic
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from tests.kafka.chaos.load import feed
from tests.kafka.cluster.fleet import APPS, Fleet
from tests.kafka.cluster.history import until_ended, until_registered
from tests.polling import WAIT_S_MAX

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.alone]
SHARDS = 3
EVENTS = 20
POLL_S = 0.2


async def lag_of(cluster: Cluster) -> int:
    """Return the lag of the workers' group as KEDA counts it, including the markers of transactions."""
    places = [(commands_topic("chaos"), partition) for partition in range(SHARDS)]
    reader = await cluster.reader(group="worker-chaos", committed=False)
    try:
        reader.assign(places)
        ends, committed = await reader.ends(places), await reader.committed(places)
        return sum(ends[at] - committed.get(at, 0) for at in places)
    finally:
        await reader.close()


async def until_no_lag(cluster: Cluster) -> None:
    """Return when the lag is 0."""
    never = asyncio.Event()
    async with asyncio.timeout(WAIT_S_MAX):
        while lag := await lag_of(cluster):
            assert lag > 0, "an offset beyond the end is committed"
            try:
                async with asyncio.timeout(POLL_S):
                    await never.wait()
            except TimeoutError:
                continue


async def observe(bootstrap: str, folder: Path) -> None:
    """Execute runs twice, and wait each time until the lag is 0."""
    cluster = Cluster(KafkaSettings(bootstrap, "scale"))
    with Fleet(bootstrap, "scale", folder, APPS / "chaos" / "chaos_app.py") as fleet:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "chaos")
        fleet.add_engine()
        fleet.add_worker()
        await until_registered(cluster, SHARDS)
        for first in (0, EVENTS):
            await feed(cluster, first, EVENTS)
            await until_ended(cluster, 2 * (first + EVENTS))
            await until_no_lag(cluster)


def test_idle_workers_have_no_lag(bootstrap: str, tmp_path: Path) -> None:
    """After all runs have ended the lag is 0, so that a scaler can remove all workers."""
    asyncio.run(observe(bootstrap, tmp_path))
