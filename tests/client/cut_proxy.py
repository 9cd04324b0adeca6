"""A proxy in front of an engine that cuts connections: before a request, or within its response."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

READ_BYTES_MAX = 1_000_000


@dataclass
class CutProxy:
    """Passes one request on each connection to an engine.

    cuts    for each of the next requests, after how many bytes of its response the connection is cut; -1: the engine
            does not get the request
    sizes   of the responses, as the engine sent them
    """

    target: str
    cuts: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of a connection, until one is cut."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while await self._answer(reader, writer):
                pass
        writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await _message(reader)
        cut = self.cuts.pop(0) if self.cuts else None
        if cut == -1:
            return False
        response = await self._response(request)
        self.sizes.append(len(response))
        writer.write(response if cut is None else response[:cut])
        await writer.drain()
        return cut is None

    async def _response(self, request: bytes) -> bytes:
        address = urlsplit(self.target)
        reader, writer = await asyncio.open_connection(address.hostname, address.port)
        try:
            writer.write(request)
            return await _message(reader)
        finally:
            writer.close()


async def _message(reader: asyncio.StreamReader) -> bytes:
    """Return a request or a response with its body, whose length its head says."""
    head = await reader.readuntil(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line)
    return head + await reader.readexactly(int(fields.get(b"content-length", 0)))


@asynccontextmanager
async def cut_proxy(target: str) -> AsyncIterator[CutProxy]:
    """Run a proxy for a block."""
    proxy = CutProxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0, limit=READ_BYTES_MAX)
    async with server:
        proxy.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield proxy
