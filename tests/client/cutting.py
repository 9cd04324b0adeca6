"""A server of one stream that cuts connections at chosen bytes, and continues after the message that a client names."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from stepstream.contract.codec import Raw, encode
from stepstream.contract.live import Published

FIRST = b": connected\nretry: 1000\n\n"
END = b'id: end\nevent: end\ndata: {"status":"completed"}\n\n'
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"


def message(name: str) -> Published:
    """Return a message whose data is its name: an execution, and its number; small letters are of another step."""
    step = "other" if name[0].islower() else "step"
    return Published("run", "c", step, step, 0, name[0], int(name[1:]), 0, Raw(f'"{name}"'.encode()))


def error(status: int, reason: str) -> bytes:
    """Return a whole response with an error."""
    body = b'{"error":{"code":"x","message":"%b","field":""}}' % reason.encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (status, len(body), body)


@dataclass
class CuttingServer:
    """Serves the messages of a stream, each as one part; `is_chunked` says how the end of the body is marked.

    cuts       for each of the next connections, after how many bytes of its response it is cut
    responses  whole responses to the next connections, in place of the stream
    asked      the heads of the requests
    """

    names: Sequence[str]
    is_chunked: bool = True
    cuts: list[int] = field(default_factory=list)
    responses: list[bytes] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    url: str = ""

    def response(self, last_id: str = "") -> bytes:
        """Return the response to a client that has read the stream up to a message."""
        first = int(last_id.removeprefix("0-")) + 1 if last_id else 0
        events = [b"id: 0-%d\ndata: %b\n\n" % (at, encode(message(name))) for at, name in enumerate(self.names)]
        parts = [FIRST, *events[first:], END]
        if not self.is_chunked:
            return OK + b"Connection: close\r\n\r\n" + b"".join(parts)
        chunks = [b"%x\r\n%b\r\n" % (len(part), part) for part in parts]
        return OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks) + b"0\r\n\r\n"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, and close the connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(head)
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        sent = self.responses.pop(0) if self.responses else self.response(headers.get("Last-Event-ID", ""))
        writer.write(sent[: self.cuts.pop(0)] if self.cuts else sent)
        try:
            await writer.drain()
            writer.close()
            await writer.wait_closed()
        except ConnectionError:
            # The client has read the end, and has closed the connection itself.
            writer.transport.abort()


@asynccontextmanager
async def cutting(*names: str, is_chunked: bool = True) -> AsyncIterator[CuttingServer]:
    """Serve these messages for a block."""
    cutter = CuttingServer(names, is_chunked)
    server = await asyncio.start_server(cutter.serve, "127.0.0.1", 0)
    async with server:
        cutter.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield cutter
