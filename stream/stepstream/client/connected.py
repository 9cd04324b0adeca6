"""The connections of a client to the HTTP API, and the requests that it sends over them."""

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import msgspec

from stepstream.client.errors import RequestRefused
from stepstream.client.requests import Request, Requests
from stepstream.client.stream_client import StreamClient
from stepstream.contract.errors import InvalidInput
from stepstream.contract.text.durations import Duration, duration_ms

T = TypeVar("T")


class Connected:
    """Opens and closes the connections of a client, sends its requests over them, and decodes the responses."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8288",
        *,
        api_key: str = "",
        event_key: str = "",
        timeout: Duration = "30s",
        reconnect_timeout: Duration = "5m",
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._api_key = checked_key(api_key, "api_key")
        self._event_key = checked_key(event_key, "event_key")
        self._url = url.rstrip("/")
        self._requests = Requests(self._url, self._api_key, duration_ms(timeout) / 1_000, pause)
        self._pause = pause
        self._streams = StreamClient(url, api_key=self._api_key, reconnect_timeout=reconnect_timeout, pause=pause)

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
        await self._streams.open()

    async def close(self) -> None:
        """Close all connections."""
        await self._streams.close()

    @property
    def streams(self) -> StreamClient:
        """Reads shared channels and issues tokens for browsers, over the connections of this client."""
        return self._streams

    async def _ask(self, request: Request) -> dict[str, Any]:
        return await self._decoded(request, dict[str, Any])

    async def _decoded(self, request: Request, kind: type[T]) -> T:
        body = await self._requests.send(self._streams.session, request)
        try:
            return msgspec.json.decode(body, type=kind)
        except (msgspec.MsgspecError, UnicodeError) as error:
            reason = f"{self._url} answers {request.label or request.path} with something else: {error}"
            raise RequestRefused(200, "not-an-engine", f"{reason}; check the address") from None


def checked_key(key: str, field: str) -> str:
    """Return a key without the line feed that it has if it was read from a file.

    Raise InvalidInput unless the rest is printable ASCII without spaces.
    """
    key = key.rstrip("\r\n")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise InvalidInput("use ASCII without spaces and line feeds", field)
    return key
