"""A worker as a script: it connects to a server of Connect, and a test says what it sends."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from google.protobuf.message import Message

from stepstream.contract.codec import encode
from stepstream.gateway.connect import frames_pb2 as pb
from stepstream.gateway.connect.connect_server import PATH, PROTOCOL, ConnectServer
from stepstream.gateway.connect.connect_transport import ConnectTransport
from stepstream.gateway.connect.frames import frame, read
from stepstream.gateway.connect.worker_call import ConnectTimes
from stepstream.gateway.runs.transport import Request, Response
from stepstream.gateway.sync.registry import PartlyRefused
from stepstream.gateway.sync.signing_keys import SigningKeys
from stepstream.gateway.sync.sync_failures import SyncFailures
from stepstream.gateway.wire.registration import AppRegistration

FUNCTION = "demo-f"


def config(id: str = FUNCTION, **more: Any) -> dict[str, Any]:
    """Return the configuration of a function."""
    url = f"wss://connect?fnId={id}&stepId=step"
    step = {"id": "step", "name": "step", "runtime": {"type": "ws", "url": url}}
    return {"id": id, "name": id, "triggers": [{"event": "demo/go"}], "steps": {"step": step}, **more}


class NoHttp:
    """A transport of apps that no worker serves: there are none."""

    async def request(self, request: Request) -> Response:
        """Refuse."""
        raise AssertionError(request.url)

    async def post(self, url: str, _headers: Any, _body: bytes) -> Response:
        """Answer by the URL."""
        return Response(200, {}, url.encode())


class Server:
    """A server on a free port, the apps that were registered, and what it reports."""

    def __init__(self, connect: ConnectServer, http: aiohttp.ClientSession) -> None:
        self.connect = connect
        self.http = http
        self.registered: list[AppRegistration] = []
        self.lines: list[str] = []
        self.failures = SyncFailures()
        self.failure: Exception | None = None

    async def register(self, app: AppRegistration) -> None:
        """Register an app, or fail."""
        if self.failure is not None:
            raise self.failure
        self.registered.append(app)
        if app.refused:
            raise PartlyRefused(app.refusal)

    def call(self, step: str = "step", request: str = "REQUEST", function: str = FUNCTION) -> asyncio.Task[Response]:
        """Make a call of a function."""
        headers = {"X-Request-ID": request, "X-Run-ID": "run", "X-Inngest-Step-ID": step, "X-Inngest-Job-ID": "job"}
        transport = ConnectTransport("demo", NoHttp(), self.connect.calls)
        return asyncio.ensure_future(transport.post(f"wss://connect?fnId={function}&stepId={step}", headers, b"{}"))

    @asynccontextmanager
    async def worker(self, ready: bool = True, **said: Any) -> AsyncIterator["Worker"]:
        """Connect a worker that serves the app `demo`."""
        async with self.dial() as worker:
            await worker.greet(**said)
            if ready:
                await worker.expect(pb.GATEWAY_CONNECTION_READY, pb.GatewayConnectionReadyData)
            yield worker

    @asynccontextmanager
    async def dial(self, protocol: str = PROTOCOL, **headers: str) -> AsyncIterator["Worker"]:
        """Open a connection, and say nothing yet."""
        url = f"http://127.0.0.1:{self.connect.port}{PATH}"
        async with self.http.ws_connect(url, protocols=(protocol,), headers=headers) as ws:
            yield Worker(ws, self.connect.tokens.start("ws://unused"))


class Worker:
    """One connection of a worker, and the answer to its start."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse, started: pb.StartResponse) -> None:
        self.ws = ws
        self.started = started

    @property
    def tokens(self) -> pb.AuthData:
        """The tokens that it was given."""
        return pb.AuthData(session_token=self.started.session_token, sync_token=self.started.sync_token)

    async def greet(self, *, functions: Any = (FUNCTION,), app: str = "demo", version: str = "1", **said: Any) -> None:
        """Say what the worker serves; the ids of functions stand for their configurations."""
        await self.expect(pb.GATEWAY_HELLO)
        configs = [config(each) if isinstance(each, str) else each for each in functions]
        apps = [pb.AppConfiguration(app_name=app, app_version=version, functions=encode(configs))]
        given: dict[str, Any] = {
            "connection_id": self.started.connection_id,
            "instance_id": "worker-1",
            "auth_data": self.tokens,
            "apps": apps,
            "sdk_language": "py",
            "sdk_version": "0.5.19",
        }
        await self.say(pb.WORKER_CONNECT, pb.WorkerConnectRequestData(**(given | said)))

    async def say(self, kind: pb.FrameKind, message: Message | None = None) -> None:
        """Send a frame."""
        await self.ws.send_bytes(frame(kind, message))

    async def expect(self, kind: pb.FrameKind, form: Callable[[], Any] = pb.WorkerStatusData) -> Any:
        """Return the message of the next frame, which must be of this kind."""
        found = await self.ws.receive(timeout=60)
        assert found.type is aiohttp.WSMsgType.BINARY, found
        received = read(pb.ConnectMessage, found.data)
        assert received.kind == kind, received
        return read(form, received.payload)  # type: ignore[arg-type]

    async def asked(self) -> Any:
        """Return the next request."""
        return await self.expect(pb.GATEWAY_EXECUTOR_REQUEST, pb.GatewayExecutorRequestData)

    async def acknowledge(self, request: Any) -> None:
        """Say that a request has come."""
        await self.say(pb.WORKER_REQUEST_ACK, pb.WorkerRequestAckData(request_id=request.request_id))

    async def extend(self, request: Any) -> str:
        """Extend a lease, and return the next one."""
        asked = pb.WorkerRequestExtendLeaseData(request_id=request.request_id, lease_id=request.lease_id)
        await self.say(pb.WORKER_REQUEST_EXTEND_LEASE, asked)
        found = await self.expect(pb.WORKER_REQUEST_EXTEND_LEASE_ACK, pb.WorkerRequestExtendLeaseAckData)
        assert found.request_id == request.request_id
        return str(found.new_lease_id)

    async def reply(self, request: Any, body: str = "null", **fields: Any) -> None:
        """Send a reply, and expect that it is acknowledged."""
        reply = pb.SDKResponse(request_id=request.request_id, body=body.encode(), **({"status": pb.DONE} | fields))
        await self.say(pb.WORKER_REPLY, reply)
        found = await self.expect(pb.WORKER_REPLY_ACK, pb.WorkerReplyAckData)
        assert found.request_id == request.request_id

    async def heartbeat(self) -> None:
        """Exchange heartbeats: all that was said before has been processed then."""
        await self.say(pb.WORKER_HEARTBEAT)
        await self.expect(pb.GATEWAY_HEARTBEAT)

    async def closed(self) -> tuple[int | None, str]:
        """Return the code and the reason with which the gateway closes the connection."""
        found = await self.ws.receive(timeout=60)
        assert found.type is aiohttp.WSMsgType.CLOSE, found
        return found.data, str(found.extra)


@asynccontextmanager
async def serving(keys: SigningKeys | None = None, **times: float) -> AsyncIterator[Server]:
    """Run a server."""

    def foreign(headers: Any) -> str:
        return "a page must not" if "Origin" in headers else ""

    listener = socket.create_server(("127.0.0.1", 0))
    async with (
        aiohttp.ClientSession() as http,
        ConnectServer(keys or SigningKeys(), foreign, ConnectTimes(**times)) as connect,
    ):
        server = Server(connect, http)
        await connect.listen(listener, server.register, server.lines.append, server.failures.failed)
        yield server
