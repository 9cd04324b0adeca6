"""A topic of commands that loses the partitions that an operator added."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from stepstream.contract.topics import INBOX, commands_topic
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.workers.group_lease import MemberOptions
from stepstream.runtime.kafka.workers.worker_log import KafkaWorkerLog
from stepstream.runtime.ports import NewRecord
from tests.kafka.cluster.topics import until_gone
from tests.polling import WAIT_S_MAX
from tests.runtime.kafka.workers.worker_group import Listener

pytestmark = [pytest.mark.kafka, pytest.mark.long]
SHARDS, TOPIC = 4, commands_topic("app")


@asynccontextmanager
async def member(cluster: Cluster) -> AsyncIterator[KafkaWorkerLog]:
    """A worker that has a name in the group, so that it joins under this name when it is restarted."""
    log = KafkaWorkerLog(cluster, "app", SHARDS, MemberOptions(instance="first"))
    await log.open(Listener())
    try:
        yield log
    finally:
        await log.close()


async def deliver(cluster: Cluster, log: KafkaWorkerLog, value: bytes) -> None:
    """Write a command for each shard, and return when the worker, which looks at its topic, has read all of them."""
    producer = await cluster.producer()
    await producer.send([NewRecord(TOPIC, shard, b"", value) for shard in range(SHARDS)])
    await producer.close()
    found = set[int]()
    while len(found) < SHARDS:
        log.check(await cluster.extents([TOPIC]))
        found |= {record.partition for record in await log.poll(10) if record.value == value}


async def test_worker_reads_a_topic_that_lost_its_further_partitions(bootstrap: str) -> None:
    """The worker was the leader of the group, and is not after its restart, so nothing starts a rebalance."""
    cluster = Cluster(KafkaSettings(bootstrap, "smaller"))
    await cluster.create({TOPIC: (SHARDS + 1, {}), INBOX: (SHARDS, {})}, 1)
    async with asyncio.timeout(WAIT_S_MAX):
        async with member(cluster) as log:
            await deliver(cluster, log, b"first")
        async with member(cluster) as log:
            await deliver(cluster, log, b"second")
            await cluster.delete([TOPIC])
            await until_gone(cluster, TOPIC)
            await cluster.create({TOPIC: (SHARDS, {})}, 1)
            await deliver(cluster, log, b"third")
