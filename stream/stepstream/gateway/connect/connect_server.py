"""The server to which workers connect: a WebSocket each, on a separate port."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Mapping
from socket import socket
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from stepstream.contract.errors import StepstreamError
from stepstream.gateway.connect import frames_pb2 as pb
from stepstream.gateway.connect.conversation import Conversation
from stepstream.gateway.connect.frames import FRAME_BYTES_MAX, frame
from stepstream.gateway.connect.handshake import REFUSED, Greeted, Handshake, Hangup
from stepstream.gateway.connect.handshake_limit import HandshakeLimit
from stepstream.gateway.connect.session_tokens import SessionTokens
from stepstream.gateway.connect.worker_call import ConnectTimes
from stepstream.gateway.connect.worker_calls import WorkerCalls
from stepstream.gateway.connect.worker_connection import CALLS_PER_CONNECTION_MAX, WorkerConnection
from stepstream.gateway.sync.signing_keys import SigningKeys
from stepstream.gateway.wire.registration import AppRegistration

logger = logging.getLogger(__name__)
PATH, PROTOCOL = "/v0/connect", "v0.connect.inngest.com"
CONNECTIONS_MAX = 1_000
# Connections of clients that have not identified themselves; one more closes the oldest of them.
STRANGERS_MAX = 512
# Handshakes that run at a time: each may receive a frame of the largest size.
_GREETED_AT_ONCE_MAX = 16
# While others wait, a client must identify itself within this time.
_SILENT_S_MAX = 0.5
GOING_AWAY = 1001
_CLOSING = "connect_gateway_closing"
# Workers that the gateway sends away close their connections within this time, or the gateway does.
_LEAVE_S = 1.0
_RELEASE_S = 0.5
# A client that is not identified for so long is disconnected within twice that time.
_STRANGER_S = 10.0


class ConnectServer:
    """The workers that are connected to this process, and the calls to them.

    `foreign` returns why a request must not come from where it does, empty if it may.
    """

    def __init__(
        self,
        keys: SigningKeys,
        foreign: Callable[[Mapping[str, str]], str],
        times: ConnectTimes | None = None,
    ) -> None:
        self.calls = WorkerCalls(times or ConnectTimes())
        self.tokens = SessionTokens(keys.all)
        self.port = 0
        self.draining = False
        self._foreign = foreign
        self._handshake: Handshake | None = None
        self._handshakes = HandshakeLimit(_GREETED_AT_ONCE_MAX, _SILENT_S_MAX)
        self._sockets: set[web.WebSocketResponse] = set()
        self._sending: set[asyncio.Future[None]] = set()
        # The connections of workers that have been identified.
        self._known: set[Any] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._runner: web.AppRunner | None = None
        self._listening: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def is_full(self) -> bool:
        """Whether no more workers may connect."""
        return len(self.calls.connections) >= CONNECTIONS_MAX

    async def listen(
        self,
        listener: socket,
        register: Callable[[AppRegistration], Awaitable[object]],
        notice: Callable[[str], None],
        failed: Callable[[StepstreamError, str, str], None],
    ) -> None:
        """Let workers connect; their apps are registered, and `notice` receives what happens to them.

        `failed` is called with the reason, the app and its URL if its functions cannot be read.
        """
        self._handshake = Handshake(self.tokens, register, notice, failed, self.calls.times)
        self.calls.notice = notice
        application = web.Application()
        application.router.add_get(PATH, self._connected)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=_LEAVE_S)
        await self._runner.setup()
        accept = functools.partial(self._accept, self._runner)
        self._listening = await asyncio.get_running_loop().create_server(accept, sock=listener)
        self.port = listener.getsockname()[1]
        self._tasks.append(asyncio.ensure_future(self._close_idle(self._runner)))

    def _accept(self, runner: web.AppRunner) -> asyncio.Protocol:
        """Return the protocol of one more connection; it may close another one."""
        assert runner.server is not None
        if len(strangers := self._strangers(runner)) >= STRANGERS_MAX:
            strangers[0].force_close()
        return runner.server()

    def _strangers(self, runner: web.AppRunner) -> list[web.RequestHandler]:
        """Return the connections whose clients are not known, the oldest first."""
        every = runner.server.connections if runner.server else ()
        return [each for each in every if each not in self._known and each.transport is not None]

    async def _close_idle(self, runner: web.AppRunner) -> None:
        """Close connections whose clients were not identified in time, until cancelled."""
        earlier: set[Any] = set()
        while runner.server is not None:
            await asyncio.sleep(_STRANGER_S)
            idle = set(self._strangers(runner))
            for each in idle & earlier:
                each.force_close()
            earlier = idle

    # One connection.

    async def _connected(self, request: web.Request) -> web.StreamResponse:
        if reason := self._foreign(request.headers):
            raise web.HTTPForbidden(text=reason)
        if PROTOCOL not in request.headers.get("Sec-WebSocket-Protocol", ""):
            raise web.HTTPBadRequest(text=f"use a WebSocket with the subprotocol {PROTOCOL}")
        if self.draining or self.is_full:
            raise web.HTTPServiceUnavailable(text="this gateway takes no more workers")
        ws = web.WebSocketResponse(
            protocols=(PROTOCOL,), max_msg_size=FRAME_BYTES_MAX, compress=False, timeout=_LEAVE_S
        )
        self._sockets.add(ws)
        try:
            said = await self._identified(request, ws)
            self._known.add(request.protocol)
            assert self._handshake is not None
            await self._serve(ws, await self._handshake.welcome(ws, said))
        except Hangup as hangup:
            await ws.close(code=hangup.code, message=str(hangup).encode())
        except ConnectionError:
            pass  # The worker is gone.
        finally:
            self._sockets.discard(ws)
            self._known.discard(request.protocol)
        return ws

    async def _identified(self, request: web.Request, ws: web.WebSocketResponse) -> pb.WorkerConnectRequestData:
        assert self._handshake is not None
        try:
            async with self._handshakes.admitted(self.calls.times.hello_s):
                await ws.prepare(request)
                return await self._handshake.identify(ws)
        except TimeoutError:
            if ws.prepared:
                raise Hangup(REFUSED, "connect_worker_hello_timeout") from None
            raise web.HTTPServiceUnavailable(text="too many clients are connecting; try again") from None

    async def _serve(self, ws: web.WebSocketResponse, greeted: Greeted) -> None:
        connection = self._connection(ws, greeted)
        names = ", ".join(app.name for app in greeted.apps.values())
        worker = f"worker {connection.instance} of {names}"
        self.calls.add(connection)
        self.calls.notice(f"{worker} ({greeted.sdk}) is connected")
        try:
            await Conversation(self.calls, connection).hold(ws)
        finally:
            self.calls.remove(connection)
            self.calls.notice(f"{worker} is disconnected")

    def _connection(self, ws: web.WebSocketResponse, greeted: Greeted) -> WorkerConnection:
        said, loop = greeted.said, asyncio.get_running_loop()
        most = said.max_worker_concurrency
        return WorkerConnection(
            said.connection_id,
            said.instance_id,
            greeted.sdk,
            greeted.apps,
            send=lambda data: self._send(ws, data),
            now_s=loop.time,
            silent_s=2 * self.calls.times.heartbeat_s,
            capacity=min(most, CALLS_PER_CONNECTION_MAX) if most > 0 else CALLS_PER_CONNECTION_MAX,
            ready=not said.worker_manual_readiness_ack,
            closing=self.draining,
            last_frame_at=loop.time(),
        )

    def _send(self, ws: web.WebSocketResponse, data: bytes) -> None:
        """Send a frame in the background; a connection that cannot take it is closed soon."""

        async def send() -> None:
            try:
                await ws.send_bytes(data)
            except ConnectionError as error:
                logger.debug("a frame cannot be sent: %s", error)

        sending = asyncio.ensure_future(send())
        self._sending.add(sending)
        sending.add_done_callback(self._sending.discard)

    # The end.

    def drain(self) -> None:
        """Have workers connect elsewhere, each once its calls have ended; calls that no worker has are not made.

        Those that execute runs must drain meanwhile: they release a run whose call is not made.
        """
        if self.draining:
            return
        self.draining = True
        for connection in self.calls.connections:
            connection.closing = True
            if not connection.calls:
                connection.send(frame(pb.GATEWAY_CLOSING))
        self._tasks.append(asyncio.ensure_future(self.release()))

    async def release(self, app: str = "") -> None:
        """Raise NotCalled in the calls of an app, or of all apps, that no worker has, until cancelled."""
        while True:
            self.calls.interrupt(app)
            await asyncio.sleep(_RELEASE_S)

    async def close(self) -> None:
        """Close the connections, and listen no longer."""
        self.drain()
        for connection in self.calls.connections:
            if connection.calls:
                connection.send(frame(pb.GATEWAY_CLOSING))
        if self._sockets:
            await self.calls.changed.until(lambda: not self.calls.connections, _LEAVE_S)
        closing = (ws.close(code=GOING_AWAY, message=_CLOSING.encode()) for ws in list(self._sockets) if ws.prepared)
        await asyncio.gather(*closing, return_exceptions=True)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._sending, return_exceptions=True)
        if self._listening is not None:
            self._listening.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
