"""The app that reads foreign topics, records of these topics, and the runs that they start."""

import asyncio
import json
from collections import Counter
from pathlib import Path

from stepstream.contract.history import RunBegan, decode_history
from stepstream.contract.topics import HISTORY
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.ports import LogRecord, NewRecord

SHARDS = 2
WAIT_S_MAX = 180.0
APP = Path(__file__).with_name("source_app.py")


async def until_read(cluster: Cluster, topic: str, count: int) -> list[LogRecord]:
    """Return the records of a topic, as soon as there are enough."""
    reader = await cluster.reader()
    found: list[LogRecord] = []
    try:
        places = [(topic, partition) for partition in range(SHARDS)]
        reader.assign(places)
        reader.seek(dict.fromkeys(places, 0))
        async with asyncio.timeout(WAIT_S_MAX):
            while len(found) < count:
                found += await reader.read(1_000, 200)
    finally:
        await reader.close()
    return found


async def began(cluster: Cluster, count: int) -> Counter[str]:
    """Return how many runs each event has started, once there are enough."""
    seen: Counter[str] = Counter()
    expected = 0
    while seen.total() < count:
        expected += 1
        entries = [decode_history(record.value) for record in await until_read(cluster, HISTORY, max(expected, count))]
        seen = Counter(entry.events[0].id for entry in entries if isinstance(entry, RunBegan))
        expected = max(expected, len(entries))
    return seen


def order(number: int) -> NewRecord:
    """Return the record of an order; orders alternate between the partitions."""
    return NewRecord("orders", number % SHARDS, b"", json.dumps({"n": number}).encode())
