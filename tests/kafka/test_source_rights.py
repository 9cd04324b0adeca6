"""A source whose rights are missing says which, and reads by itself once they are granted."""

import asyncio
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

import pytest

from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.settings import KafkaSettings
from tests.kafka.broker import Broker, free_port, jars, running
from tests.kafka.fleet import Fleet
from tests.kafka.observed import until
from tests.kafka.source_records import APP, SHARDS, began, order, until_read

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
NAMESPACE = "rights"
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"
# Kafka's own tool for this is in no library that a broker needs.
_GRANT = """
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.common.acl.*;
import org.apache.kafka.common.resource.*;
import java.util.*;

public class Grant {
    public static void main(String[] words) throws Exception {
        Properties properties = new Properties();
        properties.put("bootstrap.servers", words[0]);
        List<AclBinding> rights = new ArrayList<>();
        for (int at = 1; at < words.length; at++) {
            String[] parts = words[at].split(":");
            PatternType form = parts[1].endsWith("*") ? PatternType.PREFIXED : PatternType.LITERAL;
            String name = parts[1].endsWith("*") ? parts[1].substring(0, parts[1].length() - 1) : parts[1];
            for (String right : parts[2].split(","))
                rights.add(new AclBinding(
                    new ResourcePattern(ResourceType.valueOf(parts[0]), name, form),
                    new AccessControlEntry("User:app", "*", AclOperation.valueOf(right), AclPermissionType.ALLOW)));
        }
        try (Admin admin = Admin.create(properties)) { admin.createAcls(rights).all().get(); }
    }
}
"""
# What docs/kafka.md lists for engines and workers.
OWN = (
    f"TOPIC:{NAMESPACE}.*:READ,WRITE,DESCRIBE,CREATE,DESCRIBE_CONFIGS",
    f"GROUP:{NAMESPACE}.engine:READ",
    f"GROUP:{NAMESPACE}.worker-sources:READ",
    *(f"TRANSACTIONAL_ID:{NAMESPACE}.shard-{shard}:WRITE" for shard in range(SHARDS)),
    "CLUSTER:kafka-cluster:IDEMPOTENT_WRITE",
)


def strict_broker(folder: Path, port: int) -> Broker:
    """Make a broker with a listener for the user `app`, who may do only what is granted; its own may do all."""
    more = {
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT",
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": f'{_PLAIN} user_app="pw";',
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    return Broker(folder, [f"SASL_PLAINTEXT://127.0.0.1:{port}"], more)


def granter(folder: Path, bootstrap: str) -> Callable[[Sequence[str]], None]:
    """Return what grants rights to the user `app`, each as KIND:NAME:RIGHT,RIGHT; a name may end with a star."""
    code = folder / "Grant.java"
    code.write_text(_GRANT)

    def grant(rights: Sequence[str]) -> None:
        command = ["java", "-cp", f"{jars()}/*", str(code), bootstrap, *rights]
        subprocess.run(command, check=True, capture_output=True)

    return grant


async def observe(fleet: Fleet, all_may: Cluster, grant: Callable[[Sequence[str]], None]) -> None:
    """Start a worker without the rights of its sources, and grant one after the other."""
    foreign = all_may.without_namespace()
    await foreign.create({name: (SHARDS, {}) for name in ("orders", "payments")}, 1)
    producer = await foreign.producer()
    await producer.send([order(number) for number in range(4)])
    await producer.close()
    fleet.add_engine()
    worker = fleet.add_worker()
    await until_read(all_may, "functions", 1)
    await asyncio.to_thread(until, lambda: worker.said("READ on this consumer group is missing") > 0)
    await asyncio.to_thread(grant, [f"GROUP:{NAMESPACE}.sources-sources:READ"])
    await asyncio.to_thread(until, lambda: worker.said(f"group {NAMESPACE}.sources-sources is joined") > 0)
    await asyncio.to_thread(grant, ["TOPIC:orders:DESCRIBE"])
    await asyncio.to_thread(until, lambda: worker.said("READ on a topic is missing (TopicAuthorizationFailed") > 0)
    await asyncio.to_thread(grant, ["TOPIC:orders:READ"])
    assert set(await began(all_may, 4)) == {f"orders-{at}-{offset}" for at in range(SHARDS) for offset in range(2)}


def test_a_source_without_rights_says_so_and_reads_once_it_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the consumer group nor the topic may be read at first; nothing is restarted when they may."""
    port = free_port()
    broker = strict_broker(tmp_path, port)
    settings = KafkaSettings(f"127.0.0.1:{port}", NAMESPACE, "SASL_PLAINTEXT", "PLAIN", "app", "pw")
    for each in fields(settings):
        monkeypatch.setenv(f"STEPSTREAM_KAFKA_{each.name.upper()}", getattr(settings, each.name))
    with running(broker), Fleet(settings.bootstrap, NAMESPACE, tmp_path, APP) as fleet:
        grant = granter(tmp_path, broker.bootstrap)
        grant(OWN)
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "sources")
        asyncio.run(observe(fleet, Cluster(KafkaSettings(broker.bootstrap, NAMESPACE)), grant))
