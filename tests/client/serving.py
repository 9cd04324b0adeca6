"""An engine in memory with its real HTTP server, for tests of clients."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from stepstream import App
from stepstream.api.guards import Keys
from stepstream.host.http_server import serve_http
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
async def engine_served(of: App) -> AsyncIterator[tuple[VirtualEngine, str]]:
    """Serve an engine over HTTP for a block; yield it with its address."""
    stop, port = asyncio.Event(), asyncio.get_running_loop().create_future()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with VirtualEngine(of) as engine:
            api = api_of(engine, keys=KEYS, closing=stop)
            serving = asyncio.ensure_future(serve_http(api, listener, stop, port.set_result))
            try:
                yield engine, f"http://127.0.0.1:{await port}"
            finally:
                stop.set()
                await serving
