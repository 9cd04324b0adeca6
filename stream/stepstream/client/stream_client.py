"""Reads live streams: it connects again after a failure, and yields each message once and in order."""

import asyncio
import logging
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
import msgspec

from stepstream.client.errors import StreamLost, StreamRefused
from stepstream.client.messages import EventParser, ServerSentEvent, StreamMessage, stream_message
from stepstream.client.requests import refusal_of
from stepstream.contract.codec import load_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.live import MessageOrder, Placing, decode_published
from stepstream.contract.text.durations import Duration, duration_ms
from stepstream.sdk.channels import Channel, channel_name

D = TypeVar("D")
AnyChannel = str | Channel[Any]
logger = logging.getLogger(__name__)
# An engine sends a comment after 15 s without a message.
_SILENT_S_MAX = 45.0
_CONNECT_S_MAX = 10.0
# Less than the time for which an engine keeps an idle connection: a request on a closed one would get no answer.
_IDLE_S_MAX = 2.0
_PAUSE_S_MAX = 30.0
# A run that one engine lists may be unknown to another one for a moment.
_UNKNOWN_RUN_S = 5.0
_REASON_CHARACTERS_MAX = 1_000
_decode_end = msgspec.json.Decoder(dict[str, str]).decode


class _Interrupted(Exception):
    """The stream ended before its end, or is not served now."""


def new_session() -> aiohttp.ClientSession:
    """Return a session with the timeouts of streams, whose number is not limited."""
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S_MAX, sock_read=_SILENT_S_MAX)
    return aiohttp.ClientSession(
        timeout=timeout, connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_S_MAX)
    )


class StreamClient:
    """Reads what runs publish from an engine: `async for message in client.run(run_id, "tokens")`.

    Args:
        url: The address of any engine, or of a load balancer in front of them.
        api_key: The engine's `STEPSTREAM_API_KEY`.
        reconnect_timeout: How long a stream tries to connect again without success, before it raises `StreamLost`.
        pause: Waits for some seconds before a stream connects again; a test may pass another function.

    Use it in `async with`, which closes its connections. One client reads any number of streams at a time.

    Example:
        ```python
        async with StreamClient("http://127.0.0.1:8288") as client:
            shown = []
            async for message in client.run(run_id, "tokens"):
                shown = [each for each in shown if not message.replaces(each)]
                shown.append(message)
                print("".join(each.data for each in shown))
        ```
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8288",
        *,
        api_key: str = "",
        reconnect_timeout: Duration = "5m",
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        address = urlsplit(url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise InvalidInput(f"{url!r} is not an address; give it as http://HOST:PORT", "url")
        self._options = _Options(url.rstrip("/"), api_key, duration_ms(reconnect_timeout) / 1_000, pause)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the client."""
        await self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all connections."""
        await self.close()

    async def open(self) -> None:
        """Open the client where `async with` cannot be used; `close` closes it."""
        if self._session is None:
            self._session = new_session()

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    @property
    def session(self) -> aiohttp.ClientSession:
        """The connections of the client; raises `InvalidInput` while it is not open."""
        if self._session is None:
            raise InvalidInput("the client is not open; use it in `async with`", "client")
        return self._session

    @overload
    def run(self, run_id: str, channel: Channel[D], /, *, after: str = "") -> "LiveStream[D]": ...
    @overload
    def run(self, run_id: str, /, *channels: AnyChannel, after: str = "") -> "LiveStream[Any]": ...
    def run(self, run_id: str, /, *channels: AnyChannel, after: str = "") -> "LiveStream[Any]":
        """Return the stream of a run on these channels, or on all of its own; it ends after the end of the run.

        `after` is the id of a message: only those that follow it are read. The messages of a `Channel` have its type.
        """
        query = urlencode([("channel", channel_name(each, shared=False)) for each in channels])
        return self._stream(f"/v1/runs/{quote(run_id, safe='')}/stream" + (query and f"?{query}"), channels, after)

    @overload
    def channel(self, channel: Channel[D], /, *, after: str = "") -> "LiveStream[D]": ...
    @overload
    def channel(self, channel: str, /, *, after: str = "") -> "LiveStream[Any]": ...
    def channel(self, channel: AnyChannel, /, *, after: str = "") -> "LiveStream[Any]":
        """Return the stream of a shared channel, which has no end."""
        name = quote(channel_name(channel, shared=True), safe="")
        return self._stream(f"/v1/channels/{name}/stream", [channel], after)

    async def issue_token(
        self,
        *,
        runs: Collection[str] = (),
        run_channels: Collection[AnyChannel] = (),
        channels: Collection[AnyChannel] = (),
        expires: str = "15m",
    ) -> str:
        """Return a token by which a browser reads these streams: runs, on `run_channels` if given, and shared channels.

        Raises `StreamRefused` if the engine does not issue it, and `StreamLost` if none answers.
        """
        of_runs = [channel_name(each, shared=False) for each in run_channels]
        names = {"runs": list(runs), "run_channels": of_runs}
        names["channels"] = [channel_name(each, shared=True) for each in channels]
        url = f"{self._options.url}/v1/streams/tokens"
        try:
            async with self.session.post(
                url, json={**names, "expires": expires}, headers=self._options.headers(), allow_redirects=False
            ) as response:
                if response.status != 200:
                    raise StreamRefused(response.status, await _reason(response))
                token: str = (await response.json())["token"]
                return token
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise StreamLost(f"no token from {self._options.url}: {_text(error)}") from None

    def _stream(self, path: str, channels: Collection[AnyChannel], after: str) -> "LiveStream[Any]":
        typed = {each.name: each for each in channels if isinstance(each, Channel)}
        return LiveStream(self.session, self._options, f"{self._options.url}{path}", typed, after)


@dataclass(frozen=True, slots=True)
class _Options:
    """How a client reaches engines, and how it waits until it connects again."""

    url: str
    api_key: str = field(repr=False)
    reconnect_s: float
    pause: Callable[[float], Awaitable[None]] = field(repr=False)

    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}


class LiveStream(Generic[D]):
    """One stream: an asynchronous iterator of messages, which can be iterated over once.

    Attributes:
        last_id: The id of the last message that was read; a later stream continues there, by `after=`.
        status: How the run has ended, "" until then.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        options: _Options,
        url: str,
        typed: Mapping[str, Channel[D]],
        after: str,
    ) -> None:
        self.last_id = after
        self._typed = typed
        self.status = ""
        self._session = session
        self._options = options
        self._url = url
        self._order = MessageOrder()
        self._connected_at = 0.0
        self._failures = 0
        # Since when no engine has served the stream, and since when engines do not know its run.
        self._lost_at = self._unknown_at = math.inf

    async def __aiter__(self) -> AsyncIterator[StreamMessage[D]]:
        """Yield messages until the run has ended.

        A message that was written twice is yielded once. The first message of a new execution `replaces` some that were
        yielded before; later messages of the replaced execution are not yielded. Raises `StreamRefused`, `StreamLost`,
        and `InvalidInput` for a message that does not fit the type of its channel; `last_id` is its id then.
        """
        while not self.status:
            try:
                async for message in self._connection():
                    yield message
            except (_Interrupted, aiohttp.ClientError, TimeoutError, OSError) as error:
                await self._wait(error)
            except InvalidInput:
                raise
            except ValueError as error:
                raise StreamRefused(200, f"{self._url} sends other things than messages: {error}") from None

    async def _connection(self) -> AsyncIterator[StreamMessage[D]]:
        """Yield the messages of one connection, until the end of the stream; raise an error if it breaks before."""
        self._connected_at = asyncio.get_running_loop().time()
        headers = {**self._options.headers(), "Accept": "text/event-stream"}
        if self.last_id:
            headers["Last-Event-ID"] = self.last_id
        async with self._session.get(self._url, headers=headers, allow_redirects=False) as response:
            await self._check(response)
            parser = EventParser()
            async for part in response.content.iter_any():
                self._lost_at = math.inf
                for event in parser.feed(part):
                    if (message := self._take(event)) is not None:
                        yield message
                    if self.status:
                        return
        raise _Interrupted("the connection was closed")

    def _take(self, event: ServerSentEvent) -> StreamMessage[D] | None:
        """Return the message of an event, unless another one repeats or replaces it."""
        if event.kind == "end":
            self.status = _decode_end(event.data)["status"]
        if event.kind:
            return None
        published = decode_published(event.data)
        self.last_id, self._failures = event.id, 0
        if self._order.place(published) == Placing.IGNORED:
            return None
        channel = self._typed.get(published.channel)
        data: Any = channel.load(published.data) if channel else load_json(bytes(published.data))
        return stream_message(event.id, published, data)

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        """Raise an error unless a response is a stream."""
        if response.status == 200 and response.content_type == "text/event-stream":
            self._unknown_at = math.inf
            return
        reason = await _reason(response)
        if response.status == 404:
            now = asyncio.get_running_loop().time()
            self._unknown_at = min(self._unknown_at, now)
            if now - self._unknown_at < _UNKNOWN_RUN_S:
                raise _Interrupted(reason)
        if response.status >= 500:
            raise _Interrupted(reason)
        raise StreamRefused(response.status, reason)

    async def _wait(self, error: Exception) -> None:
        """Return when to connect again: at once after a connection that served, else later each time."""
        now = asyncio.get_running_loop().time()
        self._lost_at = min(self._lost_at, now)
        if now - self._lost_at >= self._options.reconnect_s:
            limit = f"{self._options.reconnect_s:g} s"
            raise StreamLost(f"no engine served {self._url} for {limit}: {_text(error)}") from None
        if now - self._connected_at >= _PAUSE_S_MAX:
            self._failures = 0
        pause_s = min(2.0 ** (self._failures - 1), _PAUSE_S_MAX) if self._failures else 0.0
        self._failures += 1
        logger.info("stream %s connects again in %.1f s: %s", self._url, pause_s, _text(error))
        # Clients that lost the same engine do not all connect at the same time.
        await self._options.pause(pause_s * random.uniform(0.5, 1.0))  # noqa: S311


def _text(error: Exception) -> str:
    return f"{error}" or type(error).__name__


async def _reason(response: aiohttp.ClientResponse) -> str:
    return refusal_of(response.status, await response.content.read(_REASON_CHARACTERS_MAX * 4)).message
