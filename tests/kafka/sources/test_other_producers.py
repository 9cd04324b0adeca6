"""A program that is not written in Python starts functions by plain JSON records: Kafka's own Java client."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from stepstream.contract.history import RunBegan
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from tests.kafka.cluster.distribution import tool_command
from tests.kafka.cluster.fleet import APPS, Fleet
from tests.kafka.cluster.history import until_ended, until_registered

pytestmark = [pytest.mark.kafka, pytest.mark.long]
APP = APPS / "chaos" / "chaos_app.py"
# One record for each codec; the first is not an event.
RECORDS = {
    "none": "this is not JSON",
    **{
        codec: json.dumps({"name": "chaos/go", "data": {"n": number, "more": "x" * 1_000}})
        for number, codec in enumerate(("gzip", "snappy", "lz4", "zstd"), 1)
    },
}


def produce(bootstrap: str, codec: str, record: str) -> None:
    """Send a record by Kafka's console producer, compressed."""
    arguments = ["--bootstrap-server", bootstrap, "--topic", "java.events", "--compression-codec", codec]
    subprocess.run(tool_command("kafka-console-producer.sh", arguments), input=record.encode(), check=True)


async def functions_started(fleet: Fleet) -> list[str]:
    """Send the records, and return the functions of the runs once all have ended."""
    cluster = Cluster(KafkaSettings(fleet.bootstrap, fleet.namespace))
    fleet.command("topics", "apply", "--shards", "2", "--app", "chaos")
    fleet.add_engine()
    fleet.add_worker()
    await until_registered(cluster, 2)
    for codec, record in RECORDS.items():
        await asyncio.to_thread(produce, fleet.bootstrap, codec, record)
    entries = [run[0] for run in (await until_ended(cluster, 8)).values()]
    return sorted(entry.function for entry in entries if isinstance(entry, RunBegan))


def test_java_producer_starts_functions(bootstrap: str, tmp_path: Path) -> None:
    """Plain JSON on `events` starts functions whatever its compression, and a record that is not JSON blocks none."""
    with Fleet(bootstrap, "java", tmp_path, APP) as fleet:
        assert asyncio.run(functions_started(fleet)) == ["answer"] * 4 + ["work"] * 4
