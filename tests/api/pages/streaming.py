"""Reads a stream of the page as a browser does, below the HTTP server."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from selectolax.lexbor import LexborHTMLParser

from stepstream.api.guards import Keys
from stepstream.api.http import make_api
from stepstream.api.streams import StreamOptions, Streams
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import Page, words
from tests.fakes.facades import facade_of

WAIT_S = 30
FAST = StreamOptions(interval_s=0, busy_share=1e9)


def api_of(
    engine: VirtualEngine,
    options: StreamOptions = FAST,
    closing: asyncio.Event | None = None,
    keys: Keys | None = None,
) -> Any:
    """Return the API over an engine, with streams that wait for nothing."""
    streams = Streams(engine.index.changes, closing, options)
    facade = facade_of(engine.engine)
    return make_api(facade, engine.index, lambda: b"", keys=keys, now_ms=lambda: engine.now_ms, streams=streams)


def source_of(page: Page) -> str:
    """Return the URL of the stream of a page."""
    (element,) = page.all("[data-live]")
    return element.attributes["data-live"] or ""


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a stream: its id, the name of its event, and the parts of the page by the ids of their targets."""

    id: str
    event: str
    html: str

    def texts(self) -> dict[str, str]:
        """Return the texts of the parts by the ids of the elements that they replace."""
        parts = LexborHTMLParser(self.html.replace("<hx-partial", "<section").replace("</hx-partial", "</section"))
        return {part.attributes["id"] or "": words(part) for part in parts.css("section[hx-swap=outerMorph]")}


class Stream:
    """One request of a stream. A client that takes nothing holds up the application, as a full socket does."""

    def __init__(self, app: Any, path: str, headers: Mapping[str, str]) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.left = asyncio.Event()
        self.body = b""
        self._app = app
        path, _, query = path.partition("?")
        self._scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": [(b"host", b"localhost"), *((k.lower().encode(), v.encode()) for k, v in headers.items())],
            "client": ("127.0.0.1", 1),
            "server": ("localhost", 80),
        }
        self._parts: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=1)
        self._asked = self._ended = False
        self.task: asyncio.Task[None] = asyncio.ensure_future(self._serve())

    async def _serve(self) -> None:
        await self._app(self._scope, self._receive, self._send)

    async def _receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            return
        if body := message.get("body"):
            self.body += body
            await self._parts.put(body)
        if not message.get("more_body"):
            await self._parts.put(None)

    async def read(self) -> str | None:
        """Return the next part of the response; None at its end."""
        if self._ended:
            return None
        async with asyncio.timeout(WAIT_S):
            part = await self._parts.get()
        self._ended = part is None
        return None if part is None else part.decode()

    async def message(self) -> Message:
        """Return the next message that has an id."""
        while (part := await self.read()) is not None:
            if part.startswith("id: "):
                return message_of(part)
        raise AssertionError("the stream ended")

    async def texts(self, *ids: str) -> dict[str, str]:
        """Return the parts of the next message that replaces one of these elements."""
        while True:
            found = (await self.message()).texts()
            if not ids or found.keys() & set(ids):
                return found


def message_of(part: str) -> Message:
    """Return a message from its lines."""
    first, _, rest = part.partition("\n\n")
    fields = [line.split(": ", 1) for line in first.split("\n")]
    html = "\n".join(value for name, *values in fields if name == "data" for value in values or [""])
    event = "ended" if rest.startswith("event: ended\n") else ""
    return Message(next(value for name, value in fields if name == "id"), event, html)


@asynccontextmanager
async def streaming(app: Any, path: str, **headers: str) -> AsyncIterator[Stream]:
    """Open a stream for a block; at its end the client disconnects and the application must return."""
    stream = Stream(app, path, {name.replace("_", "-"): value for name, value in headers.items()})
    try:
        yield stream
    finally:
        stream.left.set()
        while await stream.read() is not None:
            pass
        await stream.task
