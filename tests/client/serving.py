"""An engine in memory with its real HTTP server, for tests of clients."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stepstream import App
from stepstream.api.bodies import BodyBudget
from stepstream.api.guards import Keys
from stepstream.host.agents import agents_served
from stepstream.host.http_server import serve_http
from stepstream.host.settings import Settings
from stepstream.mcp.modes import McpMode
from stepstream.testing import VirtualEngine
from tests.api.pages.streaming import api_of

KEYS = Keys("event-key", "api-key", "read-key")


class Pauses:
    """What a client waited for between attempts; it waits for nothing."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        """Keep a pause."""
        self.seconds.append(seconds)


@asynccontextmanager
async def engine_served(
    of: App, *, mcp: McpMode = McpMode.OFF, keys: Keys = KEYS
) -> AsyncIterator[tuple[VirtualEngine, str]]:
    """Serve an engine over HTTP for a block, and agents if `mcp` says so; yield it with its address."""
    settings = Settings(event_key=keys.event, api_key=keys.api, mcp=mcp)
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with VirtualEngine(of) as engine:
            api = api_of(engine, keys=keys, closing=stop)
            async with agents_served(api, settings, listener, BodyBudget()):
                serving = asyncio.ensure_future(serve_http(api, listener, stop, port.set_result))
                try:
                    yield engine, f"http://127.0.0.1:{await port}"
                finally:
                    stop.set()
                    await serving
