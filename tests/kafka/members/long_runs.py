"""The app whose steps take long, and the events that start its runs."""

import json
from pathlib import Path

from stepstream.contract.topics import EVENTS
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.ports import NewRecord

APP = Path(__file__).with_name("long_app.py")


async def feed(cluster: Cluster, numbers: range) -> None:
    """Start a run for each number."""
    producer = await cluster.producer()
    values = [json.dumps({"name": "long/go", "id": f"long-{n}", "data": {"n": n}}).encode() for n in numbers]
    await producer.send(
        [NewRecord(EVENTS, -1, str(n).encode(), value) for n, value in zip(numbers, values, strict=True)]
    )
    await producer.close()
