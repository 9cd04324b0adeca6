"""The HTTP server of a process: slow, silent or numerous clients cannot starve the others."""

import asyncio
import contextlib
import functools
import logging
import resource
import socket
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import h11
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from stepstream.api.bodies import BodyBudget
from stepstream.api.facade import EngineFacade
from stepstream.api.http import make_api
from stepstream.api.routes.probes import make_probes
from stepstream.api.streams import Streams
from stepstream.host.serving import listen
from stepstream.host.settings import Settings
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.recurrence import Recurrence

GRACE_S = 5
CONNECTIONS_MAX = 512
_CHUNK_BYTES_MIN = 512
# The default of uvicorn.
_HEADERS_BYTES_MAX = 64 * 1024
# What clients send over a WebSocket is not used.
_SOCKET_MESSAGE_BYTES_MAX = 64 * 1024


def _connections_max() -> int:
    """Return how many connections leave most file descriptors of the process to its tables and Kafka clients."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS_MAX if soft == resource.RLIM_INFINITY else min(CONNECTIONS_MAX, soft // 4)


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Limits that keep one client from starving the others.

    connections_max  one more closes the connection that has waited for its client the longest
    header_s         time for the request line and the headers, from the opening of the connection or the last answer,
                     and for the rest of a body that was answered before its end
    body_s           time for the body of a request
    stream_s         time for the body of a request that sends it as it comes into being
    write_s          time for which an answer may wait for the client to read
    chunks_free      parts in which a body may arrive, however small; of more, each must have 512 bytes on average
    """

    connections_max: int = field(default_factory=_connections_max)
    header_s: float = 10.0
    body_s: float = 60.0
    stream_s: float = 15 * 60.0
    write_s: float = 30.0
    chunks_free: int = 10_000


@dataclass(frozen=True, slots=True)
class LongPaths:
    """The paths on which a client may stay: those of WebSockets, and those of bodies that it sends as a stream."""

    sockets: Collection[str] = ()
    streams: Collection[str] = ()


_NONE = LongPaths()


class _SparseWarnings(logging.LoggerAdapter[logging.Logger]):
    """A logger that logs a warning again at growing intervals: a client may cause one by each request."""

    def __init__(self, logger: logging.Logger) -> None:
        super().__init__(logger, {})
        self._recurrences: defaultdict[str, Recurrence] = defaultdict(Recurrence)

    @property
    def level(self) -> int:
        """The level of the logger, which uvicorn reads."""
        return self.logger.level

    def warning(self, msg: object, *args: object, **options: Any) -> None:
        """Log a warning, unless it was logged not long ago."""
        if (more := self._recurrences[str(msg)].occurs(str(msg))) is not None:
            super().warning(f"{msg}{more}", *args, **options)


class _Parser(h11.Connection):
    """A parser that refuses a body in very small parts: each costs at least 6 us, whatever its size."""

    def __init__(self, chunks_free: int) -> None:
        super().__init__(h11.SERVER, max_incomplete_event_size=_HEADERS_BYTES_MAX)
        self._chunks_free = chunks_free
        self._chunks = self._bytes = 0

    def next_event(self) -> Any:
        """Return the next event; raise RemoteProtocolError for a body that costs too much."""
        event = super().next_event()
        if isinstance(event, h11.Data):
            self._chunks += 1
            self._bytes += len(event.data)
            if self._chunks > self._chunks_free + self._bytes // _CHUNK_BYTES_MIN:
                raise h11.RemoteProtocolError("the body arrives in too many small parts")
        elif isinstance(event, h11.Request):
            self._chunks = self._bytes = 0
        return event


class _Connection(H11Protocol):
    """A connection that is closed when its client exceeds a deadline, or when another connection needs its place."""

    def __init__(
        self, limits: ServerLimits, warnings: _SparseWarnings, paths: LongPaths, *args: Any, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._paths, self._is_socket = paths, False
        self.logger: Any = warnings
        self.conn = _Parser(limits.chunks_free)
        self._limits = limits
        self._phase: tuple[Any, bool] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None
        self._waiting_since = self.loop.time()

    @property
    def _waits_for_client(self) -> bool:
        """Whether nothing happens until the client sends the rest of a request, or reads the answer."""
        return self.flow.write_paused or self.conn.their_state in (h11.IDLE, h11.SEND_BODY)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # As uvicorn's.
        """Accept a connection, at the cost of another one if there are too many."""
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections_max:
            others = (each for each in self.connections if isinstance(each, _Connection) and each is not self)
            waiting = (each for each in others if each._waits_for_client and not each.transport.is_closing())
            min(waiting, key=lambda each: each._waiting_since, default=self).transport.abort()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Process what the client sends."""
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Continue with the next request of the connection."""
        super().on_response_complete()
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadlines."""
        self._forget_deadlines()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Become a WebSocket, which has no deadlines: the server sends pings."""
        self._is_socket = True
        self._forget_deadlines()
        super().handle_websocket_upgrade(event)

    def _should_upgrade_to_ws(self) -> bool:
        return self.scope["path"] in self._paths.sockets and super()._should_upgrade_to_ws()

    def _forget_deadlines(self) -> None:
        for deadline in (self._deadline, self._write_deadline):
            if deadline is not None:
                deadline.cancel()

    def pause_writing(self) -> None:
        """Wait for the client to read, for a limited time."""
        super().pause_writing()
        self._waiting_since = self.loop.time()
        self._write_deadline = self.loop.call_later(self._limits.write_s, self.transport.abort)

    def resume_writing(self) -> None:
        """Continue the answer."""
        if self._write_deadline is not None:
            self._write_deadline.cancel()
        super().resume_writing()

    def _watch(self) -> None:
        """Set the deadline of what the client does now; a phase has one deadline, however slowly it proceeds."""
        phase = self.conn.their_state, self.cycle is None or self.cycle.response_complete
        if phase == self._phase or self._is_socket:
            return
        self._phase = phase
        self._waiting_since = self.loop.time()
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        if self.conn.their_state in (h11.IDLE, h11.SEND_BODY) and not self.transport.is_closing():
            _, is_answered = phase
            seconds = self._limits.header_s if is_answered else self._body_s
            self._deadline = self.loop.call_later(seconds, self.transport.abort)

    @property
    def _body_s(self) -> float:
        is_streamed = self.scope is not None and self.scope["path"] in self._paths.streams
        return self._limits.stream_s if is_streamed else self._limits.body_s


class _Server(uvicorn.Server):
    """A server that leaves signals to the process."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # The type of the parent's is not exported.
        """Capture no signal."""
        yield


async def serve_http(
    app: Callable[..., Awaitable[None]],
    listener: socket.socket,
    stop: asyncio.Event,
    ready: Callable[[int], None],
    limits: ServerLimits | None = None,
    paths: LongPaths = _NONE,
) -> None:
    """Serve until `stop` is set; `ready` is given the port once requests are accepted."""
    warnings = _SparseWarnings(logging.getLogger("uvicorn.error"))
    connection: Any = functools.partial(_Connection, limits or ServerLimits(), warnings, paths)
    config = uvicorn.Config(
        app,
        http=connection,
        ws="websockets-sansio" if paths.sockets else "none",
        ws_max_size=_SOCKET_MESSAGE_BYTES_MAX,
        ws_per_message_deflate=False,
        # Who sends a request is the peer; the page reads the headers of proxies that it trusts.
        proxy_headers=False,
        # Its lines go through the handlers of the process, in their format.
        log_config=None,
        log_level="warning",
        access_log=False,
        lifespan="off",
        timeout_graceful_shutdown=GRACE_S,
    )
    server = _Server(config)
    serving = asyncio.ensure_future(server.serve(sockets=[listener]))
    ready(listener.getsockname()[1])
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    server.should_exit = True
    await serving


def engine_api(
    engine: EngineFacade,
    index: RunIndex,
    metrics: Callable[[], bytes],
    settings: Settings,
    stop: asyncio.Event,
    bodies: BodyBudget,
    now_ms: Callable[[], int] | None = None,
) -> Starlette:
    """Return the API and the page of an engine; the streams of the page end when `stop` is set.

    `bodies` is the budget of all requests of the process. `now_ms` returns the time, by default that of the wall clock.
    """
    streams, page = Streams(index.changes, stop), settings.page_options
    return make_api(
        engine, index, metrics, keys=settings.keys, page=page, streams=streams, bodies=bodies, now_ms=now_ms
    )


@asynccontextmanager
async def probes(
    settings: Settings, alive: Callable[[], bool], unready: Callable[[], str], metrics: Callable[[], bytes]
) -> AsyncIterator[int | None]:
    """Answer probes while the block runs, on the port that is yielded; None when the settings have no port for them."""
    if settings.metrics_port is None:
        yield None
        return
    listener = listen(settings.metrics_host, settings.metrics_port, "--metrics-port")
    app = make_probes(alive, unready, metrics, api_key=settings.api_key)
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()
    serving = asyncio.ensure_future(serve_http(app, listener, over, port.set_result))
    try:
        yield await port
    finally:
        over.set()
        await serving
