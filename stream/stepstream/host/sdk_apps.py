"""The apps of SDKs that a process serves: it registers them, and gives each a worker that calls its functions."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from socket import socket

import aiohttp
from starlette.types import ASGIApp

from stepstream.api.bodies import BodyBudget
from stepstream.api.facade import EngineFacade
from stepstream.api.guards import foreign_reason, knows_key
from stepstream.gateway.connect.connect_routes import connect_routes
from stepstream.gateway.connect.connect_server import ConnectServer
from stepstream.gateway.connect.connect_transport import ConnectTransport
from stepstream.gateway.rest.parts import RestOptions, RestParts
from stepstream.gateway.rest.realtime import RealtimeTokens
from stepstream.gateway.rest.realtime_routes import PUBLISH_PATH, SOCKET_PATH, realtime_socket
from stepstream.gateway.rest.routes import rest_routes
from stepstream.gateway.runs.app import RemoteApp
from stepstream.gateway.runs.client import POOL, ClientOptions, HttpTransport
from stepstream.gateway.runs.function import RemoteFunction
from stepstream.gateway.runs.metadata_log import MetadataLog
from stepstream.gateway.runs.open_runs import OpenRuns
from stepstream.gateway.runs.peers import Peers, no_clients
from stepstream.gateway.sync.addresses import AddressPolicy
from stepstream.gateway.sync.app_client import AppClient
from stepstream.gateway.sync.polling import AppPoller
from stepstream.gateway.sync.register_route import Access, sync_routes
from stepstream.gateway.sync.registry import AppRegistry, RegistryPorts, Synced
from stepstream.gateway.sync.shared_site import shared_site
from stepstream.gateway.sync.sync_failures import SyncFailures
from stepstream.gateway.wire.registration import AppRegistration
from stepstream.host.http_server import LongPaths
from stepstream.host.settings import Settings, SettingsError
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.ports import NewRecord
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.supervision import keep_serving
from stepstream.runtime.worker.publisher import LivePublisher
from stepstream.runtime.worker.step_logs import Write

REALTIME_PATHS = LongPaths(sockets=[SOCKET_PATH], streams=[PUBLISH_PATH])


@dataclass(frozen=True, slots=True)
class Hosting:
    """What the process does for the apps.

    `prepare` returns once an app can be served. `append` writes records of `functions`, and `write_lines` lines that
    runs log. `serves` returns whether
    other workers than gateways serve an app. `start` starts the worker of an app. `report` receives a line about each
    app that appears, changes, fails or stops answering. A process that `is_alone` gets all requests of its apps, which
    may report steps while a call is open. `own` is the app whose Python code the process runs.
    """

    prepare: Callable[[str], Awaitable[None]]
    append: Callable[[Sequence[NewRecord]], Awaitable[object]]
    serves: Callable[[str], Awaitable[bool]]
    write_lines: Write
    start: Callable[[RemoteApp], None]
    report: Callable[[str], None]
    is_alone: bool = False
    own: str = ""


@dataclass(frozen=True, slots=True)
class Polling:
    """Which apps are asked to register again and again: those at `urls`, those found on local `ports`, and with
    `registered` those that have registered. In production, apps are registered when they are deployed.
    """

    urls: Sequence[str] = ()
    ports: Sequence[int] = ()
    registered: bool = False


@dataclass(frozen=True, slots=True)
class Connections:
    """The connections to apps: of calls, and of all other requests; they only go to `addresses`.

    `connect` has those that workers of apps open, and `peers` those to other gateways.
    """

    addresses: AddressPolicy
    transport: HttpTransport
    session: aiohttp.ClientSession
    connect: ConnectServer
    peers: Peers


def check_sdks_served(settings: Settings) -> None:
    """Raise SettingsError if apps of SDKs cannot be served, because their requests could not be authenticated."""
    if not settings.serves_sdks:
        raise SettingsError(
            "apps of Inngest SDKs do not send the API key: set STEPSTREAM_SIGNING_KEY too, "
            "for example to the output of `echo signkey-prod-$(openssl rand -hex 32)`"
        )


def _foreign(settings: Settings) -> Callable[[Mapping[str, str]], str]:
    """Return why a request must not come from where it does: without a signing key, only this machine may send any."""
    return (lambda _: "") if settings.signing_key else foreign_reason


@asynccontextmanager
async def connections_of(
    settings: Settings, clients: Callable[[], Awaitable[Iterable[str]]] = no_clients
) -> AsyncIterator[Connections]:
    """Connect to apps while the block runs; local ones too while only programs on this machine reach the process.

    `clients` returns the client ids of all gateways.
    """
    hosts = [each.strip() for each in settings.allow_hosts.split(",") if each.strip()]
    addresses = AddressPolicy(local=settings.is_local, hosts=hosts)
    pooled = functools.partial(addresses.connector, **POOL)
    keys = settings.signing_keys
    transport = HttpTransport(ClientOptions(keys.current, connector=pooled))
    async with (
        aiohttp.ClientSession(connector=addresses.connector()) as session,
        aiohttp.ClientSession() as between,
        ConnectServer(keys, _foreign(settings)) as connect,
    ):
        try:
            peers = Peers(between, settings.peer_url, keys.all, clients)
            yield Connections(addresses, transport, session, connect, peers)
        finally:
            await transport.close()


class SdkApps:
    """The apps of SDKs in one process; `registry` must be given the records of `functions`."""

    def __init__(self, settings: Settings, connections: Connections, hosting: Hosting, poll: Polling) -> None:
        self._settings = settings
        self._transport, self._connect, self._peers = connections.transport, connections.connect, connections.peers
        self._hosting = hosting
        self._polls_registered = poll.registered
        self._apps: dict[str, RemoteApp] = {}
        self._runs = OpenRuns(MetadataLog(hosting.write_lines, SystemClock().now_ms))
        # Whether the process answers requests: an app that is asked to register may do so by one.
        self.listening = asyncio.Event()
        ports = RegistryPorts(hosting.prepare, hosting.append, hosting.serves, self._changed)
        self.registry = AppRegistry(ports, connections.addresses, failures := SyncFailures())
        self._client = AppClient(
            connections.session, settings.signing_keys, self._register, failures, connections.peers
        )
        searched = [port for port in poll.ports if port != settings.port]
        self.poller = AppPoller(self._client, connections.session, hosting.report, searched)
        for url in poll.urls:
            self.poller.add(url)

    def site(
        self,
        own: ASGIApp,
        engine: EngineFacade,
        index: RunIndex,
        bodies: BodyBudget,
        publisher: LivePublisher,
        *,
        is_python: bool,
    ) -> ASGIApp:
        """Return our own API with the routes of SDKs; `is_python` says that the process serves a Python app too.

        Both count the bytes of their requests in `bodies`. `publisher` writes what apps publish.
        """
        if not self._settings.serves_sdks:
            return own
        keys, signing = self._settings.keys, self._settings.signing_keys
        is_open = signing.current is not None
        access = Access(
            signing,
            foreign=_foreign(self._settings),
            knows_api_key=lambda headers: knows_key(headers, keys.api),
        )
        event_keys, runs = [keys.event] if keys.event else [], self._runs
        options = RestOptions(signing.kind, event_keys, signing.all, any_host=is_open)
        parts = RestParts(
            engine,
            index,
            options,
            bodies,
            inputs=runs,
            checkpoints=runs,
            peers=self._peers,
            apps=self.registry,
            failures=self.registry.failures,
            metadata=runs.metadata,
            publisher=publisher,
            waits=self._connect.calls.waits,
            realtime=RealtimeTokens(signing.all),
        )
        routers = [
            sync_routes(self._client, self._register, access, bodies, self.registry),
            rest_routes(parts),
            realtime_socket(parts),
            connect_routes(self._connect, options, bodies, self._settings.connect_url),
        ]
        return shared_site(own, routers, lambda: not is_python or bool(self.registry.apps()))

    async def listen(self, listener: socket | None) -> None:
        """Let workers of apps connect; their apps are registered as those that are called over HTTP."""
        if listener is not None:
            registry = self.registry
            await self._connect.listen(listener, registry.register, self._hosting.report, registry.failures.failed)

    def failed(self) -> list[str]:
        """Return what is wrong with each app that failed to register."""
        return [failure.text for failure in self.registry.failures.all()]

    def drain(self) -> None:
        """Have workers connect elsewhere, once their calls have ended."""
        self._connect.drain()

    def restore(self, functions: Iterable[bytes]) -> None:
        """Serve the apps of an earlier process, from the records of `functions`."""
        self.registry.fold(functions)
        for name, url in self.registry.urls().items() if self._polls_registered else ():
            self.poller.add(url, name)

    async def _register(self, app: AppRegistration) -> Synced:
        synced = await self.registry.register(app)
        if self._polls_registered:
            self.poller.add(app.url, app.name)
        return synced

    def _changed(self, name: str) -> None:
        if name == self._hosting.own:
            return
        kind, url = self._settings.signing_keys.kind, self._peers.signed_url
        reached = self._hosting.is_alone or bool(url)
        functions = [
            RemoteFunction(each, reached, kind, inputs=reached, gateway_url=url)
            for each in self.registry.apps().get(name, ())
        ]
        if app := self._apps.get(name):
            app.replace(functions)
            self._connect.calls.changed.notify()
            return
        if not functions:
            return
        transport = ConnectTransport(name, self._transport, self._connect.calls)
        app = self._apps[name] = RemoteApp(name, transport, runs=self._runs)
        app.replace(functions)
        self._hosting.start(app)


@asynccontextmanager
async def polled(apps: SdkApps) -> AsyncIterator[None]:
    """Ask apps to register while the block runs, once `apps.listening` is set."""

    async def serve() -> None:
        await apps.listening.wait()
        await apps.poller.serve()

    polling = asyncio.ensure_future(keep_serving("the registration of apps", serve))
    try:
        yield
    finally:
        polling.cancel()
        await asyncio.gather(polling, return_exceptions=True)
