"""A broker with TLS and authentication: engines, workers and commands connect with credentials, and not without."""

import asyncio
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from tests.kafka.cluster.broker import Broker, BrokerOptions, free_port, running
from tests.kafka.cluster.fleet import ROOT, Fleet
from tests.kafka.sources.source_records import APP, SHARDS, began, order, until_read

pytestmark = [pytest.mark.kafka, pytest.mark.long]
USER, PASSWORD = "stepstream", "open-sesame-42"
_SCRAM_LOGIN = "org.apache.kafka.common.security.scram.ScramLoginModule required"
_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


def secured_broker(folder: Path, port: int, certificates_port: int) -> Broker:
    """Make a broker with two additional TLS listeners: for passwords, and for client certificates.

    The certificate authority is in ca.pem; client.pem has a certificate and a key of a client.
    """
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    authority.issue_cert("client.local").private_key_and_cert_chain_pem.write_to_path(folder / "client.pem")
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    # The broker reads keys in PKCS #8 only.
    pkcs8 = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain = b"".join(each.bytes() for each in certificate.cert_chain_pems)
    (folder / "server.pem").write_bytes(pkcs8 + chain)
    properties = {
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL,SSL:SSL",
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-512",
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": f"{_SCRAM_LOGIN};",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": f'{_LOGIN} user_{USER}="{PASSWORD}";',
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "server.pem"),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(folder / "ca.pem"),
        "listener.name.ssl.ssl.client.auth": "required",
    }
    listeners = [f"SASL_SSL://127.0.0.1:{port}", f"SSL://127.0.0.1:{certificates_port}"]
    return Broker(folder, BrokerOptions(listeners=listeners, properties=properties, users={USER: PASSWORD}))


async def observe(fleet: Fleet, settings: KafkaSettings) -> None:
    """Start runs by the records of a source, which Faust reads."""
    foreign, cluster = Cluster(settings).without_namespace(), Cluster(settings)
    await foreign.create({name: (SHARDS, {}) for name in ("orders", "payments")}, 1)
    fleet.add_engine()
    fleet.add_worker()
    await until_read(cluster, "functions", 1)
    producer = await foreign.producer()
    await producer.send([order(number) for number in range(4)])
    await producer.close()
    assert set(await began(cluster, 4)) == {f"orders-{at}-{offset}" for at in range(SHARDS) for offset in range(2)}


def command(settings: KafkaSettings, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of stepstream with some settings."""
    words = [sys.executable, "-m", "stepstream", *arguments]
    environment = os.environ | environment_of(settings)
    return subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=90, check=False)


def environment_of(settings: KafkaSettings) -> dict[str, str]:
    """Return settings as variables of a process."""
    return {f"STEPSTREAM_KAFKA_{each.name.upper()}": str(getattr(settings, each.name)) for each in fields(settings)}


def test_clients_connect_with_credentials_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All processes connect by SCRAM; commands also by PLAIN and by a client certificate.

    With a wrong password, or without a certificate, a command fails at once; no log or output has the password.
    """
    port, certificates_port = free_port(), free_port()
    broker = secured_broker(tmp_path, port, certificates_port)
    authority = str(tmp_path / "ca.pem")
    scram = KafkaSettings(f"127.0.0.1:{port}", "secret", "SASL_SSL", "SCRAM-SHA-512", USER, PASSWORD, ca_file=authority)
    plain = replace(scram, sasl_mechanism="PLAIN")
    without = KafkaSettings(f"127.0.0.1:{certificates_port}", "secret", "SSL", ca_file=authority)
    certified = replace(without, cert_file=str(tmp_path / "client.pem"))
    for name, value in environment_of(scram).items():
        monkeypatch.setenv(name, value)
    with running(broker), Fleet(scram.bootstrap, scram.namespace, tmp_path, APP) as fleet:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "sources")
        asyncio.run(observe(fleet, scram))
        served = [command(settings, "topics", "check") for settings in (plain, certified)]
        wrong = [replace(scram, sasl_password=USER), replace(plain, sasl_password=USER), without]
        refused = [command(settings, "topics", "check") for settings in wrong]
    assert [done.returncode for done in served] == [0, 0], served
    assert [done.returncode for done in refused] == [3, 3, 3], refused
    assert all("uthentication failed" in done.stderr for done in refused[:2]), refused
    written = fleet.logs() + "".join(done.stdout + done.stderr for done in (*served, *refused))
    assert PASSWORD not in written
