"""A source without permissions names the missing one, and reads as soon as it is granted."""

import asyncio
import subprocess
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest

from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from tests.kafka.cluster.broker import free_port, running
from tests.kafka.cluster.distribution import tool_command
from tests.kafka.cluster.fleet import Fleet
from tests.kafka.cluster.strict import strict_broker
from tests.kafka.sources.source_records import APP, SHARDS, began, order, until_read
from tests.polling import until

pytestmark = [pytest.mark.kafka, pytest.mark.long]
NAMESPACE = "rights"
# The permissions that docs/deploy.md lists for engines and workers.
OWN = (
    ("--topic", f"{NAMESPACE}.", "READ,WRITE,DESCRIBE,CREATE,DESCRIBE_CONFIGS"),
    ("--group", f"{NAMESPACE}.engine", "READ"),
    ("--group", f"{NAMESPACE}.worker-sources", "READ"),
    ("--transactional-id", f"{NAMESPACE}.shard-", "WRITE"),
    ("--cluster", "kafka-cluster", "IDEMPOTENT_WRITE"),
)
Grant = Callable[[str, str, str], None]


def granter(bootstrap: str) -> Grant:
    """Return a function that grants operations to the user `app`; a name that ends with . or - is a prefix."""

    def grant(resource: str, name: str, operations: str) -> None:
        arguments = ["--bootstrap-server", bootstrap, "--add", "--allow-principal", "User:app", resource]
        arguments += [] if resource == "--cluster" else [name]
        arguments += ["--resource-pattern-type", "prefixed" if name.endswith((".", "-")) else "literal"]
        for operation in operations.split(","):
            # The tool names operations in Pascal case: DescribeConfigs.
            arguments += ["--operation", operation.title().replace("_", "")]
        done = subprocess.run(tool_command("kafka-acls.sh", arguments), check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    return grant


async def observe(fleet: Fleet, admin: Cluster, grant: Grant) -> None:
    """Start a worker without the rights of its sources, and grant them one by one."""
    foreign = admin.without_namespace()
    await foreign.create({name: (SHARDS, {}) for name in ("orders", "payments")}, 1)
    producer = await foreign.producer()
    await producer.send([order(number) for number in range(4)])
    await producer.close()
    fleet.add_engine()
    worker = fleet.add_worker()
    await until_read(admin, "functions", 1)
    await asyncio.to_thread(until, lambda: worker.said("READ on this consumer group is missing") > 0)
    await asyncio.to_thread(grant, "--group", f"{NAMESPACE}.sources-sources", "READ")
    await asyncio.to_thread(until, lambda: worker.said(f"joined group {NAMESPACE}.sources-sources") > 0)
    await asyncio.to_thread(grant, "--topic", "orders", "DESCRIBE")
    await asyncio.to_thread(until, lambda: worker.said("READ on a topic is missing (TopicAuthorizationFailed") > 0)
    await asyncio.to_thread(grant, "--topic", "orders", "READ")
    assert set(await began(admin, 4)) == {f"orders-{at}-{offset}" for at in range(SHARDS) for offset in range(2)}


def test_source_reads_once_its_missing_rights_are_granted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rights on the consumer group and on the topic are granted while the worker runs; nothing is restarted."""
    port = free_port()
    settings = KafkaSettings(f"127.0.0.1:{port}", NAMESPACE, "SASL_PLAINTEXT", "PLAIN", "app", "pw")
    for each in fields(settings):
        monkeypatch.setenv(f"STEPSTREAM_KAFKA_{each.name.upper()}", str(getattr(settings, each.name)))
    with (
        running(strict_broker(tmp_path, port, {"app": "pw"})) as broker,
        Fleet(settings.bootstrap, NAMESPACE, tmp_path, APP) as fleet,
    ):
        grant = granter(broker.bootstrap)
        for right in OWN:
            grant(*right)
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "sources")
        asyncio.run(observe(fleet, Cluster(KafkaSettings(broker.bootstrap, NAMESPACE)), grant))
