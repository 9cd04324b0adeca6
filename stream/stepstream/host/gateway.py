"""The process of `stepstream gateway`: the apps of Inngest SDKs on Kafka."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from socket import socket
from typing import Any

from starlette.types import ASGIApp

from stepstream.api.bodies import BodyBudget
from stepstream.api.facade import EngineFacade
from stepstream.api.routes.probes import make_probes
from stepstream.contract.errors import Conflict, StepstreamError
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.limits import MIB
from stepstream.contract.topics import FUNCTIONS, INBOX, REPLIES, commands_topic
from stepstream.gateway.connect.connect_readings import connect_readings
from stepstream.gateway.connect.connect_server import ConnectServer
from stepstream.gateway.runs.app import RemoteApp
from stepstream.gateway.runs.peers import client_at, signed_url
from stepstream.gateway.sync.registry import AppRegistry
from stepstream.host.connect_port import listen_for_workers
from stepstream.host.connected_apps import keep_serving_app
from stepstream.host.folder import locked_folder
from stepstream.host.gateway_workers import Fleet, GatewayWorkers
from stepstream.host.http_server import probes, serve_http
from stepstream.host.monitoring.gauges import index_readings, memory_readings
from stepstream.host.monitoring.versions import build_info
from stepstream.host.read_models import open_read_model, read_model_parts
from stepstream.host.sdk_apps import (
    REALTIME_PATHS,
    Connections,
    Hosting,
    Polling,
    SdkApps,
    check_sdks_served,
    connections_of,
)
from stepstream.host.serving import end_process, listen, stop_on_signals
from stepstream.host.settings import Settings
from stepstream.host.sources.faust_app import hosted, make_faust
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.kafka.backbone import KafkaBackbone
from stepstream.runtime.kafka.client.answers import Extent
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.replies import KafkaCallers
from stepstream.runtime.kafka.topics.layout import apply_command, apply_topics, layout_of
from stepstream.runtime.kafka.topics.registrar import GATEWAY_RELEASE, client_of_release, worker_of
from stepstream.runtime.kafka.topics.topic_watch import TopicHealth, TopicWatch
from stepstream.runtime.kafka.workers.group_lease import MemberOptions
from stepstream.runtime.metrics import Metrics
from stepstream.runtime.overview import RunningWorker, ScopeChangeView, ScopePauseView, ShardView
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.worker.memory import MemoryBudget
from stepstream.runtime.worker.options import WorkerOptions
from stepstream.runtime.worker.publisher import LivePublisher
from stepstream.runtime.worker.step_logs import append_logs

logger = logging.getLogger(__name__)
_READ_MS = 1_000
_RECORDS_PER_READ = 500
_KNOWN_S_MAX = 10.0
# Without one of these no app can be served.
_TOPICS = (INBOX, FUNCTIONS, REPLIES)


@dataclass(frozen=True, slots=True)
class _Overview:
    """What a gateway knows of the whole engine: the functions that are registered through gateways."""

    registry: AppRegistry

    def functions(self) -> Sequence[FunctionRegistered]:
        """Return them, retired ones included."""
        return [each for functions in self.registry.apps().values() for each in functions]

    def pauses(self) -> Sequence[ScopePauseView]:
        """Return none: engines know them."""
        return ()

    def pause_changes(self, scope: str) -> Sequence[ScopeChangeView]:  # noqa: ARG002 - the port names it
        """Return none: engines know them."""
        return ()

    def shards(self) -> Sequence[ShardView]:
        """Return none: engines serve them."""
        return ()


async def _no_workers(_: Sequence[str]) -> dict[str, list[RunningWorker]]:
    return {}


class AppTopics:
    """The topics that the apps of a gateway need; the topic of a new app is created if that is allowed."""

    def __init__(self, cluster: Cluster, shards: int, workers: GatewayWorkers) -> None:
        self._cluster = cluster
        self._shards = shards
        self._workers = workers
        self._apps: dict[str, tuple[RemoteApp, TopicHealth]] = {}

    def add(self, app: RemoteApp) -> None:
        """Note an app that registered."""
        topic = commands_topic(app.name)
        health = TopicHealth(self._cluster.settings, [topic], self._shards, [app.name], f"app {app.name}: ")
        self._apps[app.name] = app, health

    def names(self) -> list[str]:
        """Return the names of the topics."""
        return [commands_topic(app) for app in self._apps]

    def check(self, topics: Mapping[str, Extent]) -> None:
        """Note which apps have topics that cannot be used, and log them unless all functions of an app are retired."""
        for app, health in self._apps.values():
            health.look(topics, logged=not all(each.registered.retired for each in app))
        self._workers.unusable = {name for name, (_, health) in self._apps.items() if health.unready}

    async def prepare(self, app: str) -> None:
        """Return once the topic of an app exists; raise Conflict, with the remedy, if it cannot be created."""
        try:
            async with asyncio.timeout(_KNOWN_S_MAX):
                await self._workers.known.wait()
        except TimeoutError:
            raise Conflict("the registered apps are not known yet; try again later") from None
        topic = commands_topic(app)
        if topic in await self._cluster.topics([topic]):
            return
        try:
            await apply_topics(self._cluster, [app], 0)
        except StepstreamError as error:
            remedy = f"run `{apply_command(self._cluster.settings, [app], self._shards)}`"
            raise Conflict(f"topic {self._cluster.settings.name(topic)!r} is missing; {remedy} ({error})") from None

    async def serves(self, app: str) -> bool:
        """Return whether other workers than gateways serve an app."""
        members = await self._cluster.members(f"worker-{app}")
        return any(worker_of(client).release != GATEWAY_RELEASE for client in members)

    async def clients(self) -> list[str]:
        """Return the client ids of all members of the groups of the registered apps: gateways and workers."""
        return await self._cluster.members(*(f"worker-{app}" for app in self._apps)) if self._apps else []


async def follow_functions(cluster: Cluster, registry: AppRegistry, known: asyncio.Event) -> None:
    """Give the registry the records of `functions`, all of them, until cancelled."""
    at, reader = (FUNCTIONS, 0), await cluster.reader()
    try:
        reader.assign([at])
        reader.seek({at: 0})
        end = (await reader.ends([at]))[at]
        while True:
            records = await reader.read(_RECORDS_PER_READ, _READ_MS if known.is_set() else 50)
            registry.fold(record.value for record in records if record.value)
            if await reader.position(at) >= end:
                known.set()
    finally:
        await reader.close()


class _Gateway:
    """The parts of the process, which depend on one another."""

    def __init__(
        self, settings: Settings, cluster: Cluster, shards: int, backbone: KafkaBackbone, index: RunIndex
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._shards = shards
        self._backbone = backbone
        self._index = index
        self.metrics, memory = Metrics("worker", "gateway"), MemoryBudget(settings.memory_mib * MIB)
        signed = signed_url(settings.peer_url, settings.signing_keys.all)
        member = MemberOptions(client=client_at(client_of_release(GATEWAY_RELEASE), signed))
        options = WorkerOptions(observer=self.metrics, live_cache=settings.live_cache, memory=memory)
        self.workers = GatewayWorkers(Fleet(cluster, backbone, shards, member, options))
        self._callers = KafkaCallers(cluster, backbone, shards)
        self.topics = AppTopics(cluster, shards, self.workers)
        observers = [self.workers.check, self.topics.check]
        self._watch = TopicWatch(cluster, _TOPICS, shards, observers, others=self.topics.names)
        self.metrics.ask(self.workers.read, functools.partial(memory_readings, memory))
        self.metrics.ask(functools.partial(index_readings, index), functools.partial(build_info, None, settings))

    @property
    def unready(self) -> str:
        """Why the process is not ready; empty if it is."""
        return self._watch.unready or self.workers.unready

    def apps(self, connections: Connections) -> SdkApps:
        """Return the apps, which are called over the connections."""
        topics, start = self.topics, functools.partial(self._start, connections.connect)
        self.metrics.ask(functools.partial(connect_readings, connections.connect.calls))
        append = self._backbone.append
        write_lines = functools.partial(append_logs, append)
        hosting = Hosting(topics.prepare, append, topics.serves, write_lines, start, logger.info)
        return SdkApps(self._settings, connections, hosting, Polling())

    def _start(self, connect: ConnectServer, app: RemoteApp) -> None:
        self.topics.add(app)
        app.connect(self._callers)
        serve = functools.partial(keep_serving_app, app, self.workers, connect, self._settings.drain_s)
        self.workers.follow(app.name, serve)

    def parts(self, registry: AppRegistry) -> dict[str, Callable[[], Awaitable[None]]]:
        """Return what serves while the process runs, by name."""
        # The engines fold history into a shared read model.
        folded = (lambda: ()) if self._index.is_shared else None
        return {
            "answers": self._callers.serve,
            "topics": self._watch.serve,
            "functions": functools.partial(follow_functions, self._cluster, registry, self.workers.known),
            **read_model_parts(self._backbone, self._index, folded),
        }

    def site(self, apps: SdkApps) -> ASGIApp:
        """Return what the process answers over HTTP: the requests of SDKs, and probes."""
        callers, overview, live = self._callers, _Overview(apps.registry), self._backbone.live
        asked = (callers.send, callers.signal, _no_workers, lambda: self.unready, callers, overview)
        facade, publisher = EngineFacade(*asked, live=live), LivePublisher(live.publish, self._shards)
        key = self._settings.api_key
        own = make_probes(lambda: self.workers.alive, lambda: self.unready, self.metrics.text, api_key=key)
        return apps.site(own, facade, self._index, BodyBudget(), publisher, is_python=False)

    async def serve(self, apps: SdkApps, listener: socket, stop: asyncio.Event, ready: Callable[[int], None]) -> bool:
        """Answer requests until `stop` is set and the running calls have ended; return whether all ended in time.

        A call that is running may send events and signals by requests to this process.
        """
        over = asyncio.Event()
        serving = asyncio.ensure_future(serve_http(self.site(apps), listener, over, ready, paths=REALTIME_PATHS))
        stopping = asyncio.ensure_future(stop.wait())
        waiting: set[asyncio.Future[Any]] = {serving, stopping}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        apps.drain()
        logger.info("stopping; running calls have %g s to finish", self._settings.drain_s)
        drained = await self.workers.drain(self._settings.drain_s)
        over.set()
        await serving
        await self.workers.stop()
        return drained


async def serve_gateway(settings: Settings, kafka: KafkaSettings, ready: Callable[[int], None]) -> None:
    """Serve the apps of SDKs until SIGINT or SIGTERM, then let running calls finish for a limited time.

    `ready` is given the port.
    """
    check_sdks_served(settings)
    listener, stop, cluster = listen(settings.host, settings.port), stop_on_signals(), Cluster(kafka)
    workers_listener = listen_for_workers(settings)
    layout = await layout_of(cluster, engine=False)
    with locked_folder(settings.data_dir):
        index = open_read_model(settings, layout.origin.hex())
        backbone = KafkaBackbone(cluster, SystemClock(), layout.shards)
        gateway = _Gateway(settings, cluster, layout.shards, backbone, index)
        workers, stop.bodies = gateway.workers, lambda: gateway.workers.bodies
        try:
            async with connections_of(settings, gateway.topics.clients) as connections:
                apps = gateway.apps(connections)
                await apps.listen(workers_listener)
                async with (
                    probes(settings, lambda: workers.alive, lambda: gateway.unready, gateway.metrics.text),
                    hosted(make_faust(cluster, "gateway"), **gateway.parts(apps.registry)),
                ):
                    drained = await gateway.serve(apps, listener, stop, ready)
        finally:
            index.close()
            await backbone.close()
    if not drained:
        logger.warning("a call did not finish in %g s; another gateway makes it again", settings.drain_s)
        end_process()
