"""Answers: what an app responds to a call, as the return of its function, as ops, or as a failed attempt."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from stepstream.contract.codec import NULL, Raw, encode, load_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import MIB
from stepstream.gateway.wire.dues import Due, read_retry_after
from stepstream.gateway.wire.failures import RemoteError, made_error, read_failed_body
from stepstream.gateway.wire.op_reading import read_ops
from stepstream.gateway.wire.ops import Op

ANSWER_BYTES_MAX = 8 * MIB
OK, STREAMED, PARTIAL, UNAUTHORIZED = 200, 201, 206, 401
STALE = "StaleDispatchError"
NOT_AN_SDK = "not-an-sdk"
_SHOWN_BYTES_MAX = 8 * 1024
# The code by which clients of the protocol recognize an answer that is too large.
_TOO_LARGE = '{"code":"output_too_large"}'


@dataclass(frozen=True, slots=True)
class Returned:
    """The function returned `output`, which ends the run; `sdk` and `version` are those of the headers."""

    output: Raw
    sdk: str = ""
    version: int | None = None


@dataclass(frozen=True, slots=True)
class Ops:
    """What the code did or asks for, in the order in which it is processed; it may be nothing.

    `final` and `retry_after` belong to the step that failed, if one did.
    """

    ops: tuple[Op, ...]
    sdk: str = ""
    version: int | None = None
    final: bool = False
    retry_after: Due | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The attempt failed; the call is repeated unless the error is `final`."""

    error: RemoteError
    sdk: str = ""
    version: int | None = None
    final: bool = False
    retry_after: Due | None = None

    @property
    def stale(self) -> bool:
        """Whether the app stopped because a newer call of the run superseded this one: the answer must be dropped."""
        return self.error.name == STALE


Answer = Returned | Ops | Failed


class _Streamed(msgspec.Struct):
    """The only JSON value of a streamed answer, after blanks that keep the connection open."""

    status: int
    headers: dict[str, Any] | None = None
    body: Raw = NULL
    error: str | None = None
    no_retry: bool = msgspec.field(default=False, name="noRetry")
    retry_at: str | None = msgspec.field(default=None, name="retryAt")


_decode_streamed = msgspec.json.Decoder(_Streamed).decode


def read_answer(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Return what an app answered a call; what is not an answer of an SDK is a failed attempt.

    Names of headers are matched without regard to case. A streamed answer is unwrapped first.
    """
    given = {name.lower(): text for name, text in headers.items()}
    if len(body) > ANSWER_BYTES_MAX:
        message = f"the answer has {len(body):,} bytes; at most {ANSWER_BYTES_MAX:,} are allowed"
        return _failed(made_error(message, "output-too-large", stack=_TOO_LARGE), given)
    if status == STREAMED:
        return _streamed(given, body)
    if 200 <= status < 300 and not given.get("x-inngest-sdk"):
        shown = body[:_SHOWN_BYTES_MAX].decode(errors="replace")
        message = f"the answer {status} has no header X-Inngest-Sdk: a proxy or another app answered"
        return _failed(made_error(message, NOT_AN_SDK, stack=shown), given)
    match status:
        case 200:
            return _returned(given, body)
        case 206:
            return _ops(given, body)
        case 401:
            message = "the app did not accept the signature: check that both sides have the same signing key"
            return _failed(made_error(message, "unauthorized"), given)
    return _failed(read_failed_body(body, status), given)


def _streamed(headers: Mapping[str, str], body: bytes) -> Answer:
    try:
        found = _decode_streamed(body)
        if found.status == STREAMED:
            raise InvalidInput("a streamed answer contains another one", "status")
        text = load_json(found.body)
        inner = text.encode() if isinstance(text, str) else bytes(found.body)
    except (msgspec.DecodeError, UnicodeError, InvalidInput) as error:
        return _failed(made_error(f"the streamed answer is malformed: {error}", "invalid-answer"), headers)
    more = {name.lower(): str(value) for name, value in (found.headers or {}).items()}
    if found.no_retry:
        more["x-inngest-no-retry"] = "true"
    if found.retry_at:
        more["retry-after"] = found.retry_at
    if found.error:
        return _failed(read_failed_body(encode(found.error), found.status), {**headers, **more})
    return read_answer(found.status, {**headers, **more}, inner)


def _returned(headers: Mapping[str, str], body: bytes) -> Answer:
    if not body.strip():
        return Returned(NULL, *_sdk(headers))
    try:
        load_json(body, field="output")
    except InvalidInput as error:
        # A function may return plain text, but no JSON that the engine cannot store.
        if body.lstrip()[:1] in b'{["':
            return _failed(made_error(f"the function returned a value that cannot be stored: {error}", ""), headers)
        return Returned(Raw(encode(body.decode(errors="replace"))), *_sdk(headers))
    return Returned(Raw(body.strip()), *_sdk(headers))


def _ops(headers: Mapping[str, str], body: bytes) -> Answer:
    try:
        ops = read_ops(body) if body.strip() else ()
    except InvalidInput as error:
        return _failed(made_error(f"the answer cannot be read: {error}", "invalid-answer"), headers)
    return Ops(ops, *_sdk(headers), *_retry(headers))


def _failed(error: RemoteError, headers: Mapping[str, str]) -> Failed:
    return Failed(error, *_sdk(headers), *_retry(headers))


def _sdk(headers: Mapping[str, str]) -> tuple[str, int | None]:
    version = headers.get("x-inngest-req-version", "")
    return headers.get("x-inngest-sdk", ""), int(version) if version.isdigit() and len(version) < 6 else None


def _retry(headers: Mapping[str, str]) -> tuple[bool, Due | None]:
    final = headers.get("x-inngest-no-retry", "").strip().lower() == "true"
    return final, read_retry_after(headers.get("retry-after", ""))
