"""A broker that asks for a password over TLS: all of ours get in with it, and nobody without."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from stepstream.runtime.kafka import Cluster, KafkaSettings
from tests.kafka.broker import Broker, free_port
from tests.kafka.fleet import ROOT, Fleet
from tests.kafka.test_sources import APP, SHARDS, began, order, until_read

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
USER, PASSWORD = "stepstream", "open-sesame-42"
_LOGIN = "org.apache.kafka.common.security.plain.PlainLoginModule required"


def secured_broker(folder: Path, port: int) -> Broker:
    """Make a broker with a listener for SASL over TLS beside the plain one of its own; its authority is in ca.pem."""
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    # The broker reads keys in this form alone.
    pkcs8 = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain = b"".join(each.bytes() for each in certificate.cert_chain_pems)
    (folder / "server.pem").write_bytes(pkcs8 + chain)
    more = {
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL",
        "inter.broker.listener.name": "PLAINTEXT",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": f'{_LOGIN} user_{USER}="{PASSWORD}";',
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "server.pem"),
    }
    return Broker(folder, [f"SASL_SSL://127.0.0.1:{port}"], more)


async def observe(fleet: Fleet, settings: KafkaSettings) -> None:
    """Run a function by an event, and another by a record of a source, which Faust reads."""
    foreign, cluster = Cluster(settings).without_namespace(), Cluster(settings)
    await foreign.create({name: (SHARDS, {}) for name in ("orders", "payments")}, 1)
    fleet.add_engine()
    fleet.add_worker()
    await until_read(cluster, "functions", 1)
    producer = await foreign.producer()
    await producer.send([order(number) for number in range(4)])
    await producer.close()
    assert set(await began(cluster, 4)) == {f"orders-{at}-{offset}" for at in range(SHARDS) for offset in range(2)}


def test_a_password_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the password all works; with another one a command says so at once, and none is ever written down."""
    port = free_port()
    broker = secured_broker(tmp_path, port)
    settings = KafkaSettings(
        f"127.0.0.1:{port}", "secret", "SASL_SSL", "PLAIN", USER, PASSWORD, ca_file=str(tmp_path / "ca.pem")
    )
    for name in ("security_protocol", "sasl_mechanism", "sasl_username", "sasl_password", "ca_file"):
        monkeypatch.setenv(f"STEPSTREAM_KAFKA_{name.upper()}", getattr(settings, name))
    fleet = Fleet(settings.bootstrap, settings.namespace, tmp_path, APP, tmp_path / "effects.txt")
    broker.start()
    try:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "sources")
        asyncio.run(observe(fleet, settings))
        wrong = os.environ | fleet.environment | {"STEPSTREAM_KAFKA_SASL_PASSWORD": "wrong"}
        command = [sys.executable, "-m", "stepstream", "topics", "check"]
        refused = subprocess.run(command, env=wrong, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    except BaseException as error:
        error.add_note(fleet.logs())
        raise
    finally:
        fleet.stop()
        broker.kill()
    assert refused.returncode == 3
    assert "Authentication failed" in refused.stderr
    written = fleet.logs() + refused.stdout + refused.stderr
    assert PASSWORD not in written
