"""The ACLs that `topics acls` prints: on a broker with an authorizer, each process does its work and nothing else."""

import asyncio
import shlex
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from stepstream.contract.codec import Raw, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.ids import shard_of
from stepstream.contract.live import Published, shared_stream
from stepstream.contract.topics import CHANGELOG, EVENTS, FUNCTIONS, HISTORY, INBOX, LIVE, commands_topic
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import LogError, NewRecord
from tests.gateway.runs.server import served
from tests.gateway.sdk_server import Endpoint, adding_app
from tests.kafka.chaos.load import feed
from tests.kafka.cluster.broker import free_port, running
from tests.kafka.cluster.distribution import tool_command
from tests.kafka.cluster.fleet import APPS, Fleet, Member
from tests.kafka.cluster.history import until_ended, until_registered
from tests.kafka.cluster.observed import Observed
from tests.kafka.cluster.strict import strict_broker
from tests.polling import until

pytestmark = [pytest.mark.kafka, pytest.mark.long]
SHARDS = 2
EVENTS_SENT = 4
ROLES = ("engine", "worker", "producer", "operator", "gateway")
NAMESPACE = "strict"
RECORD = encode(EventRecord("stream/function.finished"))
# What each role may not write: with it, it could invent results, code, or the state of shards.
FORBIDDEN = {
    "producer": (INBOX, FUNCTIONS, CHANGELOG, HISTORY, commands_topic("chaos")),
    "worker": (CHANGELOG, HISTORY, commands_topic("chaos")),
    "operator": (CHANGELOG, HISTORY),
    "gateway": (CHANGELOG, HISTORY, commands_topic("chaos")),
}


def environment(role: str, bootstrap: str) -> dict[str, str]:
    """Return the variables with which a process connects as a user."""
    values = {"bootstrap": bootstrap, "security_protocol": "SASL_PLAINTEXT", "sasl_mechanism": "PLAIN"}
    values |= {"sasl_username": role, "sasl_password": f"pw-{role}"}
    return {f"STEPSTREAM_KAFKA_{name.upper()}": value for name, value in values.items()}


def commands_of(printed: str) -> Iterator[list[str]]:
    """Yield the printed commands as words, with the path of the tool."""
    for line in printed.splitlines():
        tool, *words = shlex.split(line)
        yield tool_command(tool, words)


def grant(printed: str) -> None:
    """Run the printed commands, two at a time: each starts a JVM, and waits for the broker."""

    def run(words: list[str]) -> None:
        done = subprocess.run(words, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, commands_of(printed)))


async def refusals(settings: KafkaSettings, role: str) -> list[str]:
    """Return the topics to which a role may not write."""
    own = replace(settings, sasl_username=role, sasl_password=f"pw-{role}")
    found = []
    for topic in (EVENTS, *FORBIDDEN[role]):
        producer = await Cluster(own).producer()
        try:
            await producer.send([NewRecord(topic, 0, b"k", RECORD)])
        except LogError as error:
            found.append(topic if "uthorization" in repr(error.__cause__) else f"{topic}: {error!r}")
        finally:
            await producer.close()
    return found


async def observe(fleet: Fleet, settings: KafkaSettings, admin: Cluster) -> None:
    """Start runs by events of the producer, and write as each role what it may not write."""
    await until_registered(admin, SHARDS)
    await feed(Cluster(settings), 0, EVENTS_SENT)
    await until_ended(admin, 2 * EVENTS_SENT)
    for role, topics in FORBIDDEN.items():
        assert await refusals(settings, role) == list(topics), role
    assert "uthorization" not in fleet.logs()


async def stream(url: str, settings: KafkaSettings) -> None:
    """Publish a message as the worker, and read it from an engine, which reads its topic as the engine."""
    role = "worker"
    producer = await Cluster(replace(settings, sasl_username=role, sasl_password=f"pw-{role}")).producer()
    key, value = shared_stream("strict"), encode(Published("run", "strict", "", "", 0, "e", 0, 0, Raw(b"7")))
    await producer.send([NewRecord(LIVE, shard_of(key, SHARDS), key.encode(), value)])
    await producer.close()
    async with httpx.AsyncClient() as client, client.stream("GET", f"{url}/v1/channels/strict/stream") as answer:
        data = await anext(line async for line in answer.aiter_lines() if line.startswith("data: "))
    assert data.encode() == b"data: " + value


async def call_app(fleet: Fleet, gateway: Member, observed: Observed) -> None:
    """Let a gateway create the topic of an app and run its function, which an event to the gateway starts."""
    endpoint = Endpoint()
    async with served(endpoint.answer) as base, httpx.AsyncClient() as client:
        await asyncio.to_thread(until, lambda: observed.answers("/ready") == {200})
        url = observed.url(gateway)
        endpoint.serve(adding_app(url, one))
        await asyncio.to_thread(fleet.command, "gateway", "sync", f"{base}/api/inngest", "--url", url)
        sent = await client.post(f"{url}/e/key", json={"name": "demo/add", "data": {"n": 40}})
        runs = f"{url}/v1/events/{sent.json()['ids'][0]}/runs"
        published = await client.post(f"{url}/v1/realtime/publish", params={"channel": "c", "topic": "t"}, content="1")
        assert published.status_code == 200
        await asyncio.to_thread(until, lambda: [run["output"] for run in httpx.get(runs).json()["data"]] == [42])


async def one() -> int:
    """Return 1."""
    return 1


def test_processes_work_with_their_own_acls_only(tmp_path: Path) -> None:
    """An engine, a worker, a gateway, a producer and an operator connect as five users with the printed ACLs."""
    port = free_port()
    with (
        running(strict_broker(tmp_path, port, {role: f"pw-{role}" for role in ROLES})) as broker,
        Fleet(broker.bootstrap, NAMESPACE, tmp_path, APPS / "chaos" / "chaos_app.py") as fleet,
        Observed(fleet) as observed,
    ):
        grant(fleet.command("topics", "acls", "--app", "chaos", "--gateway", "User:gateway"))
        strict = f"127.0.0.1:{port}"
        fleet.variables = environment("operator", strict)
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "chaos")
        fleet.command("topics", "check", "--app", "chaos")
        fleet.command("dead-letters", "list")
        engine = fleet.add_engine("--standby", **environment("engine", strict))
        fleet.add_worker("--metrics-port", "0", **environment("worker", strict))
        gateway = fleet.add_gateway(**environment("gateway", strict))
        asyncio.run(call_app(fleet, gateway, observed))
        settings = KafkaSettings(strict, NAMESPACE, "SASL_PLAINTEXT", "PLAIN", "producer", "pw-producer")
        asyncio.run(stream(observed.url(engine), settings))
        asyncio.run(observe(fleet, settings, Cluster(KafkaSettings(broker.bootstrap, NAMESPACE))))
