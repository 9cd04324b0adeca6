"""A program that is not Python starts a function by a plain JSON record: Kafka's own client, in Java."""

import asyncio
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
        try (var producer = new KafkaProducer<String, String>(settings)) {
            for (int at = 2; at < arguments.length; at++) {
                producer.send(new ProducerRecord<>(arguments[1], arguments[at])).get();
            }
        }
    }
}
"""
RECORDS = (
    '{"name": "chaos/go", "data": {"n": 1}}',
    "this is no JSON",
    '{"name": "chaos/go", "data": {"n": 2}, "id": "two"}',
)


async def started_by_java(bootstrap: str, folder: Path) -> list[str]:
    """Have Java send two records; return the functions of the runs, which have all ended."""
    cluster = Cluster(KafkaSettings(bootstrap, "java"))
    with Fleet(bootstrap, "java", folder, Path(__file__).with_name("chaos_app.py")) as fleet:
        fleet.command("topics", "apply", "--shards", "2", "--app", "chaos")
        fleet.add_engine()
        fleet.add_worker()
        await until_registered(cluster, 2)
        (folder / "Send.java").write_text(SOURCE)
        command = ["java", "-cp", f"{jars()}/*", str(folder / "Send.java"), bootstrap, "java.events", *RECORDS]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode()
        entries = [run[0] for run in (await until_ended(cluster, 4)).values()]
        return sorted(entry.function for entry in entries if isinstance(entry, RunBegan))


def test_a_java_producer_starts_functions(tmp_path: Path) -> None:
    """Plain JSON on `events` starts functions, and a line that is none is no hindrance."""
    with running_broker() as bootstrap:
        functions = asyncio.run(started_by_java(bootstrap, tmp_path))
    assert functions == ["answer", "answer", "work", "work"]
