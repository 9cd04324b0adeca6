"""Sends requests of a client to an engine, and repeats those that got no answer where that is safe."""

import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import aiohttp
import msgspec

from stepstream.client.errors import EngineUnreachable, RequestRefused

ATTEMPTS = 4
_PAUSE_S = 0.25
_OVERLOADED = "overloaded"
ANSWERED, SERVER_ERROR = (200, 202), 500
Pause = Callable[[float], Awaitable[None]]


class Refusal(msgspec.Struct):
    """Why a server refuses a request; the code is `not-an-engine` if the server is not an engine."""

    code: str
    message: str
    field: str = ""


class _Refused(msgspec.Struct):
    error: Refusal


_decode_refused = msgspec.json.Decoder(_Refused).decode


@dataclass(frozen=True, slots=True)
class Request:
    """A request to the API: `path` is quoted, and `label` is the path without a key, for errors.

    is_repeatable  whether it may be sent again although it may have taken effect
    wait_s         for how long the engine may wait before it answers
    headers        of this request, beside those of all
    """

    method: str
    path: str
    label: str = ""
    query: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    is_repeatable: bool = True
    wait_s: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)


class Requests:
    """Sends requests over a session. `timeout_s` bounds each attempt; `pause` waits for some seconds between them."""

    def __init__(self, url: str, api_key: str, timeout_s: float, pause: Pause) -> None:
        self._url = url
        self._headers = {"Content-Type": "application/json"}
        if api_key:
            self._headers["Authorization"] = f"Bearer {api_key}"
        self._timeout_s = timeout_s
        self._pause = pause

    async def send(self, session: aiohttp.ClientSession, request: Request) -> bytes:
        """Return the answer of an engine.

        Raise RequestRefused for an error that another attempt would get too, and EngineUnreachable after the last one.
        An attempt that did not connect is always repeated, one without an answer if the request is repeatable.
        """
        is_sent, lost = False, Exception()
        for attempt in range(ATTEMPTS):
            if attempt:
                # Clients that lost the same engine do not all come back at once.
                await self._pause(_PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.5, 1.0))  # noqa: S311
            try:
                return await self._attempt(session, request)
            except aiohttp.ClientConnectorError as error:
                lost = error
            except _Unanswered as error:
                lost, is_sent = error, is_sent or error.is_sent
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                lost, is_sent = error, True
            if is_sent and not request.is_repeatable:
                break
        raise EngineUnreachable(self._explain(request, lost, is_sent=is_sent), is_sent=is_sent) from None

    async def _attempt(self, session: aiohttp.ClientSession, request: Request) -> bytes:
        async with session.request(
            request.method,
            f"{self._url}{request.path}",
            params=request.query,
            data=request.body,
            headers={**self._headers, **request.headers},
            timeout=aiohttp.ClientTimeout(self._timeout_s + request.wait_s),
            allow_redirects=False,
        ) as response:
            body = await response.read()
            if response.status in ANSWERED:
                return body
            raise _error_of(response.status, body)

    def _explain(self, request: Request, error: Exception, *, is_sent: bool) -> str:
        what = f"{request.method} {self._url}{request.label or request.path}"
        reason = f"no answer to {what}: {error or type(error).__name__}"
        if not is_sent:
            return f"{reason}; check the address, and that an engine or `stepstream dev` runs there"
        if request.is_repeatable:
            return f"{reason}; it may have taken effect, and may be sent again with the same id"
        return f"{reason}; it may have taken effect: look at the run before you send it again"


class _Unanswered(Exception):
    """The engine cannot serve a request now; `is_sent` says whether it may have taken effect."""

    def __init__(self, reason: str, *, is_sent: bool) -> None:
        super().__init__(reason)
        self.is_sent = is_sent


def refusal_of(status: int, body: bytes) -> Refusal:
    """Return the error in the body of a response."""
    try:
        return _decode_refused(body).error
    except (msgspec.MsgspecError, UnicodeError):
        reason = f"the response has the status {status}, and is not of an engine; check the address"
        return Refusal("not-an-engine", reason)


def _error_of(status: int, body: bytes) -> Exception:
    refusal = refusal_of(status, body)
    if status >= SERVER_ERROR:
        # A proxy that lost its engine answers in its place; the engine may have received the request.
        return _Unanswered(refusal.message, is_sent=refusal.code != _OVERLOADED)
    return RequestRefused(status, refusal.code, refusal.message, refusal.field)
