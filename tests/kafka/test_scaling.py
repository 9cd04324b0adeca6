"""What a scaler sees of workers: the lag of their group, from the ends of the topic and the committed offsets."""

import asyncio
from pathlib import Path

import pytest

from stepstream.contract.topics import commands_topic
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.settings import KafkaSettings
from tests.kafka.broker import running_broker
from tests.kafka.fleet import Fleet
from tests.kafka.judging import until_ended, until_registered
from tests.kafka.load import feed

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
SHARDS = 3
EVENTS = 20
REST_S_MAX = 20.0
ASK_S = 0.2


async def lag_of(cluster: Cluster) -> int:
    """Return the lag of the workers' group as KEDA counts it, which also counts what marks the ends of transactions."""
    places = [(commands_topic("chaos"), partition) for partition in range(SHARDS)]
    reader = await cluster.reader(group="worker-chaos", committed=False)
    try:
        reader.assign(places)
        ends, committed = await reader.ends(places), await reader.committed(places)
        return sum(ends[at] - committed[at] for at in places)
    finally:
        await reader.close()


async def until_no_lag(cluster: Cluster) -> None:
    """Return when nothing lags."""
    never = asyncio.Event()
    async with asyncio.timeout(REST_S_MAX):
        while lag := await lag_of(cluster):
            assert lag > 0, "more is committed than there is"
            try:
                async with asyncio.timeout(ASK_S):
                    await never.wait()
            except TimeoutError:
                continue


async def observe(bootstrap: str, folder: Path) -> None:
    """Run some functions to their end, see the lag fall to nothing, run some more, and see it again."""
    cluster = Cluster(KafkaSettings(bootstrap, "scale"))
    with Fleet(bootstrap, "scale", folder, Path(__file__).with_name("chaos_app.py")) as fleet:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "chaos")
        fleet.add_engine()
        fleet.add_worker()
        await until_registered(cluster, SHARDS)
        for first in (0, EVENTS):
            await feed(cluster, first, EVENTS)
            await until_ended(cluster, 2 * (first + EVENTS))
            await until_no_lag(cluster)


def test_workers_at_rest_have_no_lag(tmp_path: Path) -> None:
    """Once all runs have ended nothing lags, so that a scaler takes workers away, and the last one too."""
    with running_broker() as bootstrap:
        asyncio.run(observe(bootstrap, tmp_path))
