"""The HTTP server with clients that are many, slow or silent, over real sockets."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import httpx
import pytest
from starlette.types import Receive, Scope, Send

from stepstream import App, Context, on
from stepstream.api.bodies import FREE_BYTES, BodyBudget
from stepstream.api.http import make_api
from stepstream.contract.limits import DEFAULT_LIMITS
from stepstream.host.http_server import ServerLimits, probes, serve_http
from stepstream.host.serving import listen
from stepstream.host.settings import Settings
from stepstream.testing import VirtualEngine
from tests.fakes.facades import facade_of
from tests.fakes.waiting import until

HEAD = b"POST /e/dev HTTP/1.1\r\nHost: localhost\r\n"
FORM = b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 9\r\n\r\n"
LOGIN = b"POST /ui/login HTTP/1.1\r\nHost: localhost\r\n" + FORM
# Their answers do not wait for their bodies.
ANSWERED = b"GET /health HTTP/1.1\r\nHost: localhost\r\n" + FORM
UNKNOWN = b"POST /nowhere HTTP/1.1\r\nHost: localhost\r\n" + FORM
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]
app = App("shop")


@app.function(on("go"))
async def work(ctx: Context) -> None:
    """Do nothing."""


@asynccontextmanager
async def serving(limits: ServerLimits | None = None, bodies: BodyBudget | None = None) -> AsyncIterator[int]:
    """Serve the API of an engine in memory; yield its port."""
    async with VirtualEngine(app) as engine:
        api = make_api(facade_of(engine.engine), engine.index, lambda: b"", bodies=bodies)
        async with serving_app(api, limits) as port:
            yield port


@asynccontextmanager
async def serving_app(app: Callable[..., Awaitable[None]], limits: ServerLimits | None) -> AsyncIterator[int]:
    """Serve an ASGI app; yield its port."""
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    server = asyncio.ensure_future(serve_http(app, listen("127.0.0.1", 0), stop, port.set_result, limits))
    try:
        yield await port
    finally:
        stop.set()
        await server


@asynccontextmanager
async def connections(port: int, count: int, data: bytes) -> AsyncIterator[list[Connection]]:
    """Open connections that each send some bytes and then nothing."""
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            writer.write(data)
            opened.append((reader, writer))
        yield opened


async def status(port: int, path: str = "/health") -> int:
    """Return the status of a request on a new connection."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        return (await client.get(path)).status_code


@pytest.mark.parametrize(
    "data",
    [b"", HEAD, LOGIN, ANSWERED, UNKNOWN],
    ids=["silent", "half-open", "half a form", "answered before its body", "refused before its body"],
)
async def test_half_open_connections_do_not_stop_other_clients(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """A new connection takes the place of the one that has waited longest for its client."""
    # No deadline may close them instead.
    limits = ServerLimits(connections_max=20, header_s=600, body_s=600)
    async with serving(limits) as port, connections(port, 100, data) as opened:
        assert await status(port) == 200
        ends = [asyncio.ensure_future(reader.read()) for reader, _ in opened]
        await asyncio.wait(ends[:70], timeout=60)
        assert all(end.done() for end in ends[:70])
        assert await status(port, "/ready") == 200
        for end in ends:
            end.cancel()
        await asyncio.gather(*ends, return_exceptions=True)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


async def test_requests_in_progress_keep_their_connections() -> None:
    """Only connections that wait for their clients are closed for others; if there is none, the new one is refused.

    The probes on a port of their own answer meanwhile.
    """
    started, released = asyncio.Semaphore(0), asyncio.Event()

    async def slow(_scope: Scope, _receive: Receive, send: Send) -> None:
        started.release()
        await released.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})

    request = HEAD + b"Content-Length: 2\r\n\r\n{}"
    async with serving_app(slow, ServerLimits(connections_max=2)) as port, connections(port, 2, request) as opened:
        await started.acquire()
        await started.acquire()
        with pytest.raises(httpx.TransportError):
            await status(port)
        async with probes(Settings(metrics_port=0), lambda: True, lambda: "", bytes) as own:
            assert own is not None
            assert [await status(own, path) for path in ("/health", "/ready")] == [200, 200]
        released.set()
        for reader, _ in opened:
            assert (await asyncio.wait_for(reader.readline(), 60)).startswith(b"HTTP/1.1 200")
        assert await status(port) == 200


@pytest.mark.parametrize(
    "data",
    [b"", HEAD, HEAD + b"Content-Length: 9\r\n\r\n{", HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", LOGIN],
)
async def test_a_request_that_never_ends_is_closed(data: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """Headers and body each have a deadline; a client that exceeds it, or leaves, causes no traceback."""
    caplog.set_level(logging.INFO)
    # The request that follows must meet them on a loaded machine.
    limits = ServerLimits(header_s=0.5, body_s=0.5)
    async with serving(limits) as port, connections(port, 1, data) as opened:
        ended = await asyncio.wait_for(asyncio.gather(opened[0][0].read(), return_exceptions=True), 60)
        assert ended[0] == b"" or isinstance(ended[0], ConnectionResetError)
        assert await status(port) == 200
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(("size", "expected"), [(1, b"HTTP/1.1 400"), (600, b"HTTP/1.1 200")])
async def test_a_body_in_very_small_chunks_is_refused(size: int, expected: bytes) -> None:
    """Each chunk costs the same, so 16 MiB of one byte each would take 100 s; larger ones are accepted."""
    padding = b"%x\r\n%s\r\n" % (size, b" " * size)
    event = b"d\r\n" + b'{"name":"go"}' + b"\r\n0\r\n\r\n"
    request = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + padding * 600 + event
    async with serving(ServerLimits(chunks_free=100)) as port, connections(port, 1, request) as opened:
        assert (await asyncio.wait_for(opened[0][0].readline(), 60)).startswith(expected)
        assert await status(port) == 200


async def test_a_slow_client_cannot_extend_the_deadline() -> None:
    """A byte from time to time keeps no connection open."""
    async with serving(ServerLimits(header_s=0.1)) as port, connections(port, 1, HEAD) as opened:
        reader, writer = opened[0]
        closed = asyncio.ensure_future(reader.read())
        while not closed.done():
            writer.write(b"X-More: 1\r\n")
            await asyncio.wait({closed}, timeout=0.02)
        assert closed.exception() is not None or closed.result() == b""


async def test_the_rest_of_an_answered_body_has_the_deadline_of_headers() -> None:
    """A body that nothing reads keeps no connection open, however slowly it arrives."""
    request = ANSWERED.replace(b"Length: 9", b"Length: 999999")
    async with serving(ServerLimits(header_s=0.1, body_s=600)) as port, connections(port, 1, request) as opened:
        reader, writer = opened[0]
        closed = asyncio.ensure_future(reader.read())
        async with asyncio.timeout(60):
            while not closed.done():
                writer.write(b"a")
                await asyncio.wait({closed}, timeout=0.02)
        assert closed.exception() is not None or closed.result().startswith(b"HTTP/1.1 200")


async def test_a_client_that_does_not_read_is_closed() -> None:
    """An answer that the client does not take has a deadline as well."""
    requests = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * 3_000
    limits = ServerLimits(header_s=600, body_s=600, write_s=0.05)
    async with serving(limits) as port, connections(port, 1, requests) as opened:
        _, writer = opened[0]
        closed = asyncio.ensure_future(writer.wait_closed())
        async with asyncio.timeout(60):
            while not closed.done():
                # Only a client that writes notices the end of a connection that it does not read.
                writer.write(b"\r\n")
                await asyncio.wait({closed}, timeout=0.02)
        assert await status(port) == 200
        assert isinstance(closed.exception(), ConnectionError)


async def test_invalid_requests_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A client that sends anything but HTTP, again and again, does not fill the log; each request is answered."""
    async with serving() as port:
        for _ in range(20):
            async with connections(port, 1, b"not http\r\n\r\n") as ((reader, _),):
                assert (await reader.read()).startswith(b"HTTP/1.1 400")
        assert await status(port) == 200
    assert [record.getMessage() for record in caplog.records] == ["Invalid HTTP request received."]


async def test_a_connection_serves_several_requests() -> None:
    """The deadline of one request is not that of the next."""
    request = HEAD + b'Content-Length: 13\r\n\r\n{"name":"go"}'
    async with serving(ServerLimits(header_s=5, body_s=5)) as port, connections(port, 1, request) as opened:
        reader, writer = opened[0]
        for _ in range(5):
            answer = await asyncio.wait_for(reader.readuntil(b'"status":200}'), 60)
            assert answer.startswith(b"HTTP/1.1 200")
            writer.write(request)


async def test_all_bodies_together_have_one_budget() -> None:
    """Bodies that never end hold no more than the budget; small requests are served, large ones are asked to retry."""
    size = DEFAULT_LIMITS.request_bytes_max
    bodies = BodyBudget(2 * size, wait_s=0.05)
    large = b"[" + b" " * (4 * FREE_BYTES) + b'{"name":"go"}]'
    endless = HEAD + f"Content-Length: {size}\r\n\r\n[".encode()
    async with (
        serving(bodies=bodies) as port,
        connections(port, 10, endless),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
    ):
        await until(lambda: bodies._claimed == 2 * (size - FREE_BYTES))
        refused = await client.post("/e/dev", content=large)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        assert (await client.post("/e/dev", json={"name": "go"})).status_code == 200
    async with serving(bodies=bodies) as port, httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        assert (await client.post("/e/dev", content=large)).status_code == 200
        assert bodies._claimed == 0


async def test_probes_have_a_port_of_their_own_on_request() -> None:
    """It serves health, readiness and metrics, and nothing else; without a setting there is none."""
    async with probes(Settings(), lambda: True, str, bytes) as port:
        assert port is None
    async with probes(Settings(metrics_port=0), lambda: True, lambda: "starting", lambda: b"m 1") as port:
        assert port is not None
        assert [await status(port, path) for path in ("/health", "/ready", "/metrics", "/v1/runs")] == [
            200,
            503,
            200,
            404,
        ]
