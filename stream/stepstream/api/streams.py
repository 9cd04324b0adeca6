"""Server-sent events: each stream composes its next message when its client takes it, so that none has a queue."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any

from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from stepstream.contract.errors import StepstreamError
from stepstream.runtime.ports import StoreError
from stepstream.runtime.readmodel.changes import RunChanges

logger = logging.getLogger(__name__)
NOTHING = -1
# When browsers connect again after a failure.
RETRY_MS = 1_000


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What streams may cost.

    interval_s   the shortest time between two messages of a stream
    heartbeat_s  after this time without a change the message is composed again: pages show how much time has passed
    pause_s_max  the longest time between two messages while runs change
    streams_max  streams of a process; further ones are refused
    busy_share   the share of the time that all streams together may take to compose: they send less often if need be
    """

    interval_s: float = 0.25
    heartbeat_s: float = 15.0
    pause_s_max: float = 30.0
    streams_max: int = 64
    busy_share: float = 0.03


@dataclass(frozen=True, slots=True)
class Update:
    """What a stream sends: HTML, which may be empty; if it is the last message, the client does not reconnect."""

    html: str = ""
    is_last: bool = False


# Composes what changed after a version of RunChanges; after NOTHING, all has changed.
Compose = Callable[[int], Awaitable[Update]]


class Streams:
    """The open streams of a process. They end when `closing` is set, so that no shutdown waits for them."""

    def __init__(
        self, changes: RunChanges, closing: asyncio.Event | None = None, options: StreamOptions | None = None
    ) -> None:
        self.changes = changes
        self.options = options or StreamOptions()
        self._closing = closing or asyncio.Event()
        self._open = 0

    def beside(self) -> "Streams":
        """Return streams of the same process, with the same options, that are counted apart from these."""
        return Streams(self.changes, self._closing, self.options)

    @property
    def is_closing(self) -> bool:
        """Whether the process stops."""
        return self._closing.is_set()

    @property
    def is_full(self) -> bool:
        """Whether there may be no further stream now."""
        return self._open >= self.options.streams_max

    def respond(self, compose: Compose, last_id: str) -> Response:
        """Answer with a stream that continues after the message `last_id`; 503 if there are too many."""
        if self.is_full:
            text = f"this engine has {self._open} live pages already, which is its limit; reload the page by hand"
            return PlainTextResponse(text, 503, {"Retry-After": "30"})
        return EventStream(self, self.messages(compose, self.changes.version_of(last_id)))

    async def messages(self, compose: Compose, since: int) -> AsyncGenerator[bytes, None]:
        """Yield the messages of a stream; the next one is composed once the previous one was taken."""
        options, changes = self.options, self.changes
        while True:
            version, started = changes.version, time.perf_counter()
            update = await _composed(compose, since)
            took_s = time.perf_counter() - started
            yield _message(changes.mark(version), update)
            if update.is_last:
                return
            await asyncio.sleep(self.pause_s(took_s, self._open))
            since = version if await changes.after(version, options.heartbeat_s) else NOTHING

    def pause_s(self, took_s: float, streams: int) -> float:
        """Return for how long each of some streams waits after a message that took so long to compose."""
        options = self.options
        return min(max(options.interval_s, took_s * streams / options.busy_share), options.pause_s_max)

    async def serve(self, sending: Coroutine[Any, Any, None], receive: Receive) -> None:
        """Run `sending` until it ends, the client disconnects, or the process stops."""
        self._open += 1
        with self.changes.watched():
            waits = (sending, _disconnected(receive), self._closing.wait())
            tasks = [asyncio.ensure_future(each) for each in waits]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                self._open -= 1
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        if not tasks[0].cancelled():
            tasks[0].result()


class EventStream(Response):
    """A response of server-sent events; the next one is taken once the client took the previous one."""

    media_type = "text/event-stream"

    def __init__(self, streams: Streams, messages: AsyncGenerator[bytes, None]) -> None:
        # Not the parent's: it would add a length.
        self.status_code = 200
        self.background = None
        self.init_headers({"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        self._streams = streams
        self._messages = messages

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Send messages until the stream ends."""
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        await send(start)
        await self._streams.serve(self._send(send), receive)
        with suppress(OSError):
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, send: Send) -> None:
        async with aclosing(self._messages) as messages:
            async for message in messages:
                await send({"type": "http.response.body", "body": message, "more_body": True})


async def _composed(compose: Compose, since: int) -> Update:
    try:
        return await compose(since)
    except (StepstreamError, StoreError) as error:
        # The read model may be replaced, or its disk be full: the next heartbeat composes all again.
        logger.warning("a live page was not updated: %s", error)
        return Update()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _message(mark: str, update: Update) -> bytes:
    """Return a message; a comment, which keeps the connection open, if nothing changed."""
    data = update.html.replace("\r", "&#13;").split("\n")
    lines = [f"id: {mark}", f"retry: {RETRY_MS}", *(f"data: {line}" for line in data)]
    text = "\n".join(lines) if update.html else ": nothing changed"
    last = "event: ended\ndata:\n\n" if update.is_last else ""
    return f"{text}\n\n{last}".encode()
