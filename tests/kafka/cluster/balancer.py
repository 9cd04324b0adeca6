"""A load balancer in front of processes that may end at any time: it forwards connections to one that accepts them."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

_READ_BYTES = 65_536


@asynccontextmanager
async def balanced(ports: Sequence[int]) -> AsyncIterator[str]:
    """Serve on a free port of the loopback, and yield the URL; connections go to the ports in turn."""
    turns = itertools.cycle(range(len(ports)))

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = next(turns)
        for port in (*ports[first:], *ports[:first]):
            with suppress(OSError):
                other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port)
                await asyncio.gather(_copy(reader, other_writer), _copy(other_reader, writer))
                return
        writer.close()

    server = await asyncio.start_server(forward, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while part := await reader.read(_READ_BYTES):
            writer.write(part)
            await writer.drain()
    writer.close()
