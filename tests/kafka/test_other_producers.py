"""A program that is not Python starts a function by a plain JSON record: Kafka's own client, in Java."""

import asyncio
import json
import subprocess
from pathlib import Path

import pytest

from stepstream.contract.history import RunBegan
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.settings import KafkaSettings
from tests.kafka.broker import jars, running_broker
from tests.kafka.fleet import Fleet
from tests.kafka.judging import until_ended, until_registered

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
SOURCE = """
import java.util.*;
import org.apache.kafka.clients.producer.*;

public class Send {
    public static void main(String[] arguments) throws Exception {
        var serializer = "org.apache.kafka.common.serialization.StringSerializer";
        var settings = new Properties();
        settings.put("bootstrap.servers", arguments[0]);
        settings.put("key.serializer", serializer);
        settings.put("value.serializer", serializer);
        for (int at = 3; at < arguments.length; at++) {
            settings.put("compression.type", arguments[2].split(",")[at - 3]);
            try (var producer = new KafkaProducer<String, String>(settings)) {
                producer.send(new ProducerRecord<>(arguments[1], arguments[at])).get();
            }
        }
    }
}
"""
# Each record is compressed in another way.
CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
RECORDS = (
    "this is no JSON",
    *(json.dumps({"name": "chaos/go", "data": {"n": number, "more": "x" * 1_000}}) for number in range(1, len(CODECS))),
)


async def started_by_java(bootstrap: str, folder: Path) -> list[str]:
    """Have Java send records; return the functions of the runs, which have all ended."""
    cluster = Cluster(KafkaSettings(bootstrap, "java"))
    with Fleet(bootstrap, "java", folder, Path(__file__).with_name("chaos_app.py")) as fleet:
        fleet.command("topics", "apply", "--shards", "2", "--app", "chaos")
        fleet.add_engine()
        fleet.add_worker()
        await until_registered(cluster, 2)
        (folder / "Send.java").write_text(SOURCE)
        command = ["java", "-cp", f"{jars()}/*", str(folder / "Send.java"), bootstrap, "java.events", ",".join(CODECS)]
        command += RECORDS
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        entries = [run[0] for run in (await until_ended(cluster, 8)).values()]
        return sorted(entry.function for entry in entries if isinstance(entry, RunBegan))


def test_a_java_producer_starts_functions(tmp_path: Path) -> None:
    """Plain JSON on `events` starts functions, compressed or not, and a line that is none is no hindrance."""
    with running_broker() as bootstrap:
        functions = asyncio.run(started_by_java(bootstrap, tmp_path))
    assert functions == ["answer"] * 4 + ["work"] * 4
