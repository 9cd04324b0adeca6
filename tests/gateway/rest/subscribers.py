"""Subscribers to the topics of a site: tokens, and WebSockets of a real server."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from stepstream.host.http_server import ServerLimits, serve_http
from stepstream.host.sdk_apps import REALTIME_PATHS
from stepstream.host.serving import listen
from tests.gateway.rest.sites import SdkClient

RECEIVE_S_MAX = 20.0


@asynccontextmanager
async def served(client: SdkClient, limits: ServerLimits | None = None) -> AsyncIterator[aiohttp.ClientSession]:
    """Serve the site of a client on a socket; yield a session with it."""
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    stop, listener = asyncio.Event(), listen("127.0.0.1", 0)
    serving = serve_http(client.site, listener, stop, port.set_result, limits, REALTIME_PATHS)
    server = asyncio.ensure_future(serving)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{await port}") as session:
        yield session
        stop.set()
        await server


async def token(client: SdkClient, *topics: tuple[str, str]) -> str:
    """Return a token for topics, given as channel and name."""
    body = [{"channel": channel, "name": name, "kind": "run"} for channel, name in topics]
    answer = await client.http.post("/v1/realtime/token", json=body)
    assert answer.status_code == 201
    jwt: str = answer.json()["jwt"]
    return jwt


async def received(socket: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    """Return the next message."""
    async with asyncio.timeout(RECEIVE_S_MAX):
        message: dict[str, Any] = json.loads((await socket.receive()).data)
    return message
