"""A gateway on Kafka: its workers, the topics of its apps, and what it knows of them."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import aiohttp
import pytest

from stepstream.contract.codec import encode
from stepstream.contract.errors import Conflict
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.topics import FUNCTIONS
from stepstream.gateway.runs.app import RemoteApp
from stepstream.gateway.runs.function import RemoteFunction
from stepstream.gateway.runs.peers import Peers, client_at, signed_url
from stepstream.gateway.sync.addresses import AddressPolicy
from stepstream.gateway.sync.registry import AppRegistry, RegistryPorts
from stepstream.gateway.sync.sync_failures import SyncFailures
from stepstream.gateway.wire.signing import SigningKey
from stepstream.host import gateway as gateway_module
from stepstream.host.gateway import AppTopics, follow_functions
from stepstream.host.gateway_workers import Fleet, GatewayWorkers
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.kafka.backbone import KafkaBackbone
from stepstream.runtime.kafka.client.answers import Extent
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.topics.layout import LayoutError
from stepstream.runtime.kafka.topics.registrar import GATEWAY_RELEASE, client_of_release, worker_of
from stepstream.runtime.kafka.workers.group_lease import MemberOptions
from stepstream.runtime.metrics import Metrics
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.worker.options import WorkerOptions
from tests.fakes.cluster import FakeCluster
from tests.fakes.waiting import until
from tests.runtime.exposition import Scrape

GATEWAY, PYTHON = client_of_release(GATEWAY_RELEASE), client_of_release("0123456789ab")


def workers_on(cluster: FakeCluster) -> GatewayWorkers:
    """Return the workers of a gateway."""
    backbone = KafkaBackbone(cluster, SystemClock(), 1)
    return GatewayWorkers(Fleet(cluster, backbone, 1, MemberOptions(), WorkerOptions()))


async def test_gateway_is_ready_as_a_member_of_each_group() -> None:
    """Before it knows its apps it is not ready, nor while the group of an app has not assigned partitions."""
    cluster, transport = FakeCluster(), Any
    workers, metrics = workers_on(cluster), Metrics("worker")
    metrics.ask(workers.read)
    assert workers.unready == "starting: the registered apps are not read yet"
    workers.known.set()
    assert workers.unready == ""
    given: Any = transport
    workers.start(RemoteApp("demo", given))
    assert workers.unready == "app demo: starting: commands are not read yet"
    await cluster.assign(0)
    await until(lambda: not workers.unready)
    scrape = Scrape(metrics.text().decode())
    assert scrape.sum("stepstream_ready") == 1
    assert scrape.sum("stepstream_rebalances_total", group="worker") == 1
    assert scrape.sum("stepstream_worker_slots", app="demo") > 0
    assert (workers.alive, workers.bodies) == (True, 0)
    assert await workers.drain(5.0)
    assert workers.unready.startswith("app demo: draining")
    await workers.stop()


async def test_gateway_leaves_the_group_of_one_app() -> None:
    """It stays ready, and still counts what the group had assigned."""
    cluster, transport = FakeCluster(), cast(Any, None)
    workers, metrics = workers_on(cluster), Metrics("worker")
    metrics.ask(workers.read)
    workers.known.set()
    workers.start(RemoteApp("demo", transport))
    await cluster.assign(0)
    await until(lambda: not workers.unready)
    await workers.leave("demo", 5.0)
    workers.start(RemoteApp("demo", transport))
    assert workers.unready == "app demo: starting: commands are not read yet"
    await workers.leave("demo", 5.0)
    assert workers.unready == ""
    assert Scrape(metrics.text().decode()).sum("stepstream_rebalances_total", group="worker") == 1
    await workers.stop()


async def test_topic_of_a_new_app_is_created(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app whose topic exists needs nothing; where creating is refused, the error has the command."""
    cluster, created = FakeCluster(), list[Sequence[str]]()
    cluster.extents_of["commands.new"] = Extent(0, 0)

    async def apply(_: Cluster, apps: Sequence[str], __: int) -> list[str]:
        created.append(apps)
        if len(created) > 1:
            raise LayoutError("the broker refuses")
        return []

    monkeypatch.setattr(gateway_module, "apply_topics", apply)
    topics = AppTopics(cluster, 8, workers := workers_on(cluster))
    workers.known.set()
    await topics.prepare("old")
    assert created == []
    await topics.prepare("new")
    assert created == [["new"]]
    with pytest.raises(Conflict, match=r"'commands.new' is missing; run `stepstream topics apply .*--app new`"):
        await topics.prepare("new")


async def test_missing_topic_of_one_app_does_not_affect_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with the command that creates it, unless the app is retired; a registration creates it too."""
    cluster = FakeCluster()
    topics = AppTopics(cluster, 8, workers := workers_on(cluster))
    workers.known.set()
    for name in ("shop", "gone"):
        app = RemoteApp(name, cast(Any, None))
        app.replace([RemoteFunction(FunctionRegistered(f"{name}-a", name, retired=name == "gone"))])
        topics.add(app)
        workers.start(app)
    extents = {"commands.shop": Extent(8, 1, "1"), "commands.gone": Extent(8, 1, "2")}
    topics.check(extents)
    assert workers.unready.count("starting") == 2
    for _ in range(2):
        topics.check({})
    assert (workers.unready, set(workers.unusable)) == ("", {"shop", "gone"})
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert line.startswith("app shop: not ready: topic 'commands.shop' is missing; run `stepstream topics apply ")
    assert line.endswith("--app shop`")
    topics.check(extents)
    assert workers.unready.count("starting") == 2
    await workers.stop()


async def test_app_is_left_to_workers_of_python_code() -> None:
    """Other gateways are not such workers."""
    cluster = FakeCluster()
    topics = AppTopics(cluster, 1, workers_on(cluster))
    found = []
    for clients in ([], [GATEWAY], [GATEWAY, PYTHON]):
        cluster.clients = clients
        found.append(await topics.serves("demo"))
    assert found == [False, False, True]


async def test_gateways_find_one_another_by_the_groups_of_their_apps() -> None:
    """Those that state a URL are members with it; a URL that is not signed by the key does not count."""
    cluster, keys = FakeCluster(), [SigningKey("signkey-test-00ff")]
    topics = AppTopics(cluster, 1, workers_on(cluster))
    topics.add(RemoteApp("demo", cast(Any, None)))
    forged = signed_url("http://10.0.0.9:1", [SigningKey("signkey-test-11ff")])
    urls = [signed_url(f"http://10.0.0.{number}:8288", keys) for number in (1, 2)]
    cluster.clients = [PYTHON, GATEWAY, *(client_at(GATEWAY, url) for url in (*urls, forged))]
    async with aiohttp.ClientSession() as session:
        peers = Peers(session, "http://10.0.0.1:8288", keys, topics.clients)
        assert await peers.others() == ["http://10.0.0.2:8288"]
    assert {worker_of(client).release for client in cluster.clients} == {GATEWAY_RELEASE, "0123456789ab"}


async def test_registrations_of_other_gateways_are_followed() -> None:
    """The apps of the topic are known before the process is ready, and later ones as they register."""
    cluster, known, changed = FakeCluster(), asyncio.Event(), list[str]()

    async def unused(_: Any) -> Any:
        raise AssertionError

    registry = AppRegistry(RegistryPorts(unused, unused, unused, changed.append), AddressPolicy(), SyncFailures())
    records = [
        encode(FunctionRegistered("demo-a", "demo", endpoint="http://example.com/?fnId=demo-a")),
        encode(FunctionRegistered("python", "shop")),
    ]
    cluster.add(LogRecord(FUNCTIONS, 0, at, b"", value, (), 1) for at, value in enumerate(records))
    following = asyncio.ensure_future(follow_functions(cluster, registry, known))
    await known.wait()
    assert changed == ["demo"]
    cluster.add([LogRecord(FUNCTIONS, 0, 2, b"", records[0].replace(b"demo", b"more"), (), 1)])
    await until(lambda: changed == ["demo", "more"])
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
