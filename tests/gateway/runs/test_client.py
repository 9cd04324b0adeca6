"""The HTTP client of calls, against a server that a test decides about."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.client_proto import ResponseHandler

from stepstream.gateway.runs.client import ClientOptions, HttpTransport
from stepstream.gateway.runs.connector import check_aiohttp
from stepstream.gateway.runs.transport import Request, Unreachable
from stepstream.gateway.wire.answers import ANSWER_BYTES_MAX, Failed, read_answer
from stepstream.gateway.wire.signing import SigningKey
from tests.gateway.runs.server import served

KEY = SigningKey("signkey-test-00112233445566778899aabbccddeeff")


@asynccontextmanager
async def client(options: ClientOptions | None = None) -> AsyncIterator[HttpTransport]:
    """Yield a client that is closed at the end."""
    transport = HttpTransport(options)
    try:
        yield transport
    finally:
        await transport.close()


async def test_a_call_is_signed_when_it_is_sent() -> None:
    """The signature is over the bytes of the body, with the time of the request."""
    seen: list[tuple[str, bytes, str]] = []

    async def handler(request: web.Request) -> web.Response:
        seen.append((request.headers["X-Inngest-Signature"], await request.read(), request.headers["X-A"]))
        return web.Response(status=206, text="[]", headers={"X-Inngest-Sdk": "inngest-py:v1"})

    async with served(handler) as url, client(ClientOptions(KEY, now_s=lambda: 1_700_000_000.5)) as transport:
        response = await transport.post(f"{url}/x?stepId=step", {"X-A": "b"}, b'{"a":1}')
    ((signature, body, header),) = seen
    assert (response.status, response.body, header) == (206, b"[]", "b")
    assert signature.startswith("t=1700000000&")
    assert KEY.verify(signature, body, 1_700_000_000)


async def test_a_redirect_within_the_host_is_followed_with_the_body() -> None:
    """The request is repeated as it was; a redirect to another host is not followed."""

    async def handler(request: web.Request) -> web.Response:
        if request.path == "/away":
            raise web.HTTPTemporaryRedirect("http://other.test/x")
        if request.path == "/old":
            raise web.HTTPTemporaryRedirect("/new")
        if request.path == "/port":
            raise web.HTTPTemporaryRedirect(f"{other}/new")
        return web.Response(body=await request.read(), headers={"X-Query": request.query_string})

    async with served(handler) as other, served(handler) as url, client() as transport:
        for path in ("/old", "/port"):
            response = await transport.post(f"{url}{path}?fnId=f", {}, b"data")
            # A redirect does not name the function.
            assert (response.body, response.headers["X-Query"]) == (b"data", "fnId=f")
        with pytest.raises(Unreachable, match="another host"):
            await transport.post(f"{url}/away", {}, b"data")


async def test_a_response_that_is_too_large_is_cut() -> None:
    """Its size is a failed attempt, and no memory for the rest is needed."""

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=b"x" * (2 * ANSWER_BYTES_MAX))

    async with served(handler) as url, client() as transport:
        response = await transport.post(url, {}, b"{}")
    assert len(response.body) < ANSWER_BYTES_MAX + 1024 * 1024
    answer = read_answer(response.status, response.headers, response.body)
    assert isinstance(answer, Failed)
    assert answer.error.code == "output-too-large"


async def test_a_request_for_an_app_shows_no_secret() -> None:
    """It has the method, the headers and the body that the app gave; an error does not show a URL with a key."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response(status=418, text=f"{request.method} {request.headers['X-A']} {await request.text()}")

    async with served(handler) as url, client() as transport:
        response = await transport.request(Request("PATCH", url, {"X-A": "b"}, b"body"))
        assert (response.status, response.body) == (418, b"PATCH b body")
        with pytest.raises(Unreachable) as caught:
            await transport.request(Request("POST", "http://127.0.0.1:99999/?key=secret", {}, follow=False))
    assert "secret" not in str(caught.value)


async def test_an_app_that_does_not_answer_is_unreachable() -> None:
    """It refuses connections, or does not respond in time."""

    async def handler(_: web.Request) -> web.Response:
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async with served(handler) as url, client(ClientOptions(call_s_max=0.01)) as transport:
        with pytest.raises(Unreachable, match="no response within"):
            await transport.post(url, {}, b"{}")
        with pytest.raises(Unreachable, match="ClientConnectorError"):
            await transport.post("http://127.0.0.1:9/x", {}, b"{}")


async def test_a_response_of_http_1_0_ends_with_its_connection() -> None:
    """A proxy of that version may pass on that the app sends chunks, though it has put them together."""
    sent = b'HTTP/1.0 201 Created\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n  {"status":200}'

    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        # The head arrives in parts.
        for part in (sent[:5], sent[5:40], sent[40:]):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        writer.close()

    async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server, client() as transport:
        port = server.sockets[0].getsockname()[1]
        response = await transport.post(f"http://127.0.0.1:{port}", {}, b"{}")
    assert (response.status, response.headers["X-A"], response.body) == (201, "b", b'  {"status":200}')


def test_changed_aiohttp_is_refused() -> None:
    """A process with a version that makes connections in another way does not start."""
    connector: Any = type("TCPConnector", (), {})
    with pytest.raises(ImportError, match=r"TCPConnector\._create_direct_connection of aiohttp .* aiohttp==3\.14"):
        check_aiohttp(aiohttp.BaseConnector, connector, ResponseHandler)


async def test_a_response_that_stops_fails_the_call() -> None:
    """A proxy announces a streamed response and holds it back: the call is made again, and does not hang."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=201)
        await response.prepare(request)
        await response.write(b" ")
        return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]

    async with served(handler) as url, client(ClientOptions(silence_s_max=0.01)) as transport:
        with pytest.raises(Unreachable, match=r"the response 201 stopped for 0\.01 s; a proxy may hold it back"):
            await transport.post(url, {}, b"{}")
