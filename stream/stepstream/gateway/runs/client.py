"""The HTTP client of calls: pooled connections, a time limit, bounded responses, and a signature as a call is sent."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from stepstream.gateway.runs.bodies import read_body
from stepstream.gateway.runs.connector import Connector
from stepstream.gateway.runs.redirects import REDIRECTS_MAX, is_same_host, redirected
from stepstream.gateway.runs.transport import Request, Response, Unreachable
from stepstream.gateway.wire.answers import ANSWER_BYTES_MAX
from stepstream.gateway.wire.signing import SigningKey

CALL_S_MAX = 2 * 60 * 60.0
CONNECT_S_MAX = 10.0
# Between two parts of a response: an app that streams sends a blank every few seconds.
SILENCE_S_MAX = 120.0
# Servers of apps close idle connections after 5 s by default; a call on one that is being closed would fail.
IDLE_S_MAX = 3.0
# The arguments of the connector for calls. The calls of each app are limited: several may have one host.
POOL: Mapping[str, Any] = {"limit": 0, "keepalive_timeout": IDLE_S_MAX}


def pooled() -> aiohttp.BaseConnector:
    """Return what opens connections, and keeps them for later calls."""
    return Connector(**POOL)


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """What a deployment decides about calls; the time limits are those of one call, and of a pause in its response.

    `connector` makes what opens connections: it may refuse addresses.
    """

    key: SigningKey | None = None
    call_s_max: float = CALL_S_MAX
    silence_s_max: float = SILENCE_S_MAX
    now_s: Callable[[], float] = time.time
    connector: Callable[[], aiohttp.BaseConnector] = pooled


class HttpTransport:
    """Sends calls over HTTP.

    A redirect is followed with the same method and body, within one host: a call has the data of a run, which another
    host must not get.
    """

    def __init__(self, options: ClientOptions | None = None) -> None:
        self._options = options or ClientOptions()
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Send a call and return the response; raise Unreachable if there is none that can be used."""
        async with self._limited():
            return await self._follow(url, headers, body)

    async def request(self, request: Request) -> Response:
        """Make a request for an app, unsigned, and return the response; raise Unreachable if there is none."""
        # The text of an error may contain the URL, and a URL may contain the key of a provider.
        async with (
            self._limited(shows_text=request.follow),
            self._opened().request(
                request.method,
                request.url,
                data=request.body,
                headers=request.headers,
                allow_redirects=request.follow,
            ) as response,
        ):
            return await self._response(response)

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            # The transports end in the next iteration of the event loop.
            await asyncio.sleep(0)

    async def _follow(self, url: str, headers: Mapping[str, str], body: bytes) -> Response:
        for _ in range(REDIRECTS_MAX + 1):
            response, location = await self._once(url, headers, body)
            if not location:
                return response
            target = redirected(url, location)
            if not is_same_host(target, url):
                raise Unreachable(f"the app redirects to another host: {target[:200]}")
            url = target
        raise Unreachable(f"the app redirects more than {REDIRECTS_MAX} times")

    async def _once(self, url: str, headers: Mapping[str, str], body: bytes) -> tuple[Response, str]:
        """Send one request; return the response, and where it redirects to, if it does."""
        signed = dict(headers)
        if key := self._options.key:
            signed["X-Inngest-Signature"] = key.sign(body, int(self._options.now_s()))
        session = self._opened()
        async with session.post(url, data=body, headers=signed, allow_redirects=False) as response:
            if 300 <= response.status < 400 and (location := response.headers.get("Location")):
                return Response(response.status, response.headers, b""), location
            return await self._response(response), ""

    @asynccontextmanager
    async def _limited(self, *, shows_text: bool = True) -> AsyncIterator[None]:
        """Bound a request in time, and raise Unreachable for what fails it."""
        try:
            async with asyncio.timeout(self._options.call_s_max):
                yield
        except (aiohttp.ClientError, OSError, ValueError) as error:
            if type(error) is TimeoutError:
                raise Unreachable(f"no response within {self._options.call_s_max:g} s") from None
            text = f": {error}" if shows_text else ""
            raise Unreachable(f"no response: {type(error).__name__}{text}") from None

    async def _response(self, response: aiohttp.ClientResponse) -> Response:
        silence_s = self._options.silence_s_max
        try:
            body = await read_body(response, ANSWER_BYTES_MAX, silence_s)
        except TimeoutError:
            message = f"the response {response.status} stopped for {silence_s:g} s; a proxy may hold it back"
            raise Unreachable(message) from None
        return Response(response.status, response.headers, body)

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None or self._session.closed:
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S_MAX)
            jar = aiohttp.DummyCookieJar()
            self._session = aiohttp.ClientSession(connector=self._options.connector(), timeout=timeout, cookie_jar=jar)
        return self._session
