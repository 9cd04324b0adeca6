"""Tokens by which a browser reads live streams: signed, short-lived, and only for the streams that they name."""

from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
from fastapi import HTTPException, Query, Request
from starlette.datastructures import MutableHeaders, QueryParams
from starlette.types import ASGIApp, Receive, Scope, Send

from stepstream.api.bodies import decode_body
from stepstream.api.guards import NO_KEY, knows_key
from stepstream.api.signing import TOKEN_CHARACTERS_MAX, TokenSigner, expiry
from stepstream.contract.errors import InvalidInput, TooLarge
from stepstream.contract.ids import is_run_id
from stepstream.contract.live import check_channel

_LONGEST = "24h"
_REMEDY = "ask your server for a new one"
_NOT_VALID = f"this token is not of this engine's API key, or it was changed; {_REMEDY}"
_TOKEN = Query("", description="a token of `POST /v1/streams/tokens`, in place of the API key")


class StreamToken(msgspec.Struct, frozen=True, array_like=True):
    """What a token opens until a time (Unix ms): runs, with `run_channels` or all of theirs, and shared channels."""

    expires_at: int
    runs: tuple[str, ...] = ()
    run_channels: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()


class TokenBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request for a token."""

    runs: tuple[str, ...] = ()
    run_channels: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    expires: str = "15m"


class Grant:
    """What a request may read: everything with the API key, and with a token what it names, until it expires."""

    def __init__(self, token: StreamToken | None, now_ms: Callable[[], int]) -> None:
        self._token = token
        self._now_ms = now_ms

    @property
    def is_expired(self) -> bool:
        """Whether the time of the token is over."""
        return self._token is not None and self._token.expires_at <= self._now_ms()

    def check_run(self, run_id: str, channels: set[str]) -> set[str]:
        """Return the channels of a run to show, empty for all; raise a 403 if they are not in the scope."""
        token = self._token
        if token is None:
            return channels
        if run_id not in token.runs:
            raise HTTPException(403, f"this token does not open run {run_id!r}; ask for one that has it in `runs`")
        if other := sorted(channels.difference(token.run_channels)) if token.run_channels else []:
            reason = f"this token does not open channel {other[0]!r}; ask for one that has it in `run_channels`"
            raise HTTPException(403, reason)
        return channels or set(token.run_channels)

    def check_channel(self, name: str) -> None:
        """Raise a 403 if a shared channel is not in the scope."""
        if self._token is not None and name not in self._token.channels:
            reason = f"this token does not open shared channel {name!r}; ask for one that has it in `channels`"
            raise HTTPException(403, reason)


@dataclass(frozen=True, slots=True)
class StreamTokens:
    """Signs tokens with a secret that is derived from the API key. All tokens end when the key changes.

    An engine without a key serves streams to any program on its machine, and signs tokens so that code which uses them
    runs there too.
    """

    signer: TokenSigner
    now_ms: Callable[[], int]

    def issue(self, body: bytes) -> dict[str, str | int]:
        """Return the token that a request asks for and when it expires (Unix ms); raise InvalidInput."""
        found = _parse(body, self.now_ms())
        token = self.signer.token(found)
        if len(token) > TOKEN_CHARACTERS_MAX:
            reason = f"the token would have {len(token):,} characters, at most {TOKEN_CHARACTERS_MAX:,} are allowed"
            raise TooLarge(f"{reason}; name fewer runs and channels", "body")
        return {"token": token, "expires_at": found.expires_at}

    async def grant(self, request: Request, token: str = _TOKEN) -> Grant:
        """Return what a request may read; raise a 401 without the API key or a valid token."""
        if "token" not in request.query_params:
            if not knows_key(request.headers, self.signer.api_key):
                raise HTTPException(401, f"{NO_KEY}, or a token as `?token=`")
            return Grant(None, self.now_ms)
        found = self.signer.value(token, StreamToken)
        if found is None:
            raise HTTPException(401, _NOT_VALID)
        grant = Grant(found, self.now_ms)
        if grant.is_expired:
            at = datetime.fromtimestamp(found.expires_at / 1_000, UTC).isoformat(timespec="seconds")
            raise HTTPException(401, f"this token expired at {at}; {_REMEDY}")
        return grant


def stream_tokens(api_key: str, now_ms: Callable[[], int]) -> StreamTokens:
    """Return the tokens of an engine with this API key."""
    return StreamTokens(TokenSigner("stream token", api_key), now_ms)


def _parse(body: bytes, now_ms: int) -> StreamToken:
    asked = decode_body(body, TokenBody)
    if not asked.runs and not asked.channels:
        raise InvalidInput("name at least one run in `runs` or one shared channel in `channels`", "body")
    if asked.run_channels and not asked.runs:
        raise InvalidInput("these are channels of runs; name the runs in `runs`", "run_channels")
    if wrong := [run_id for run_id in asked.runs if not is_run_id(run_id)]:
        raise InvalidInput(f"{wrong[0]!r} is not a run id", "runs")
    for channel in (*asked.run_channels, *asked.channels):
        check_channel(channel)
    return StreamToken(expiry(asked.expires, _LONGEST, now_ms), asked.runs, asked.run_channels, asked.channels)


class ReadableFromPages:
    """Lets pages of other sites read the responses to requests for a stream with a token.

    The token gives the right to read, and nothing that a browser adds by itself does. The refusal of a token is
    readable too: a browser repeats a request without end if it may not read the response.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""

        async def send_readable(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["Access-Control-Allow-Origin"] = "*"
            await send(message)

        await self._app(scope, receive, send_readable if _has_token(scope) else send)


def _has_token(scope: Scope) -> bool:
    is_stream = scope["type"] == "http" and scope["path"].startswith("/v1/") and scope["path"].endswith("/stream")
    return is_stream and "token" in QueryParams(scope["query_string"])
