"""Errors of apps: the error objects of SDKs, and those that the gateway makes of answers that have none."""

from dataclasses import dataclass

import msgspec

from stepstream.contract.codec import Json, Raw, encode, load_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import ERROR_MESSAGE_CHARACTERS_MAX, ERROR_STACK_CHARACTERS_MAX
from stepstream.contract.outcomes import ErrorInfo
from stepstream.gateway.wire.canonical import canonical_json

DEFAULT_NAME = "Error"
NAME_CHARACTERS_MAX = 255
# How much of an answer that is not of an SDK an error shows.
_SHOWN_BYTES_MAX = 8 * 1024
# The body of an older SDK, or of a proxy, contains the error under one of these names.
_WRAPPERS = ("error", "body")


@dataclass(frozen=True, slots=True)
class RemoteError:
    """An error that an app reported: its name, message and stack, and the whole object as it came, in canonical JSON.

    `code` is a code of the gateway, empty for an error of user code.
    """

    name: str
    message: str
    stack: str
    raw: Raw
    code: str = ""

    @property
    def info(self) -> ErrorInfo:
        """The error as records have it."""
        return ErrorInfo(self.name, self.message, self.stack, self.code)


class _Shown(msgspec.Struct, omit_defaults=True):
    name: str
    message: str
    stack: str = ""


def made_error(message: str, code: str, *, name: str = DEFAULT_NAME, stack: str = "") -> RemoteError:
    """Return an error of the gateway itself, about an answer that has no error object."""
    message, stack = message[:ERROR_MESSAGE_CHARACTERS_MAX], stack[:ERROR_STACK_CHARACTERS_MAX]
    raw = canonical_json(encode(_Shown(name, message, stack)))
    return RemoteError(name, message, stack, raw, code)


def read_error(raw: bytes | Raw, field: str = "error") -> RemoteError:
    """Return the error object of an SDK; raise InvalidInput if it is not JSON."""
    value = load_json(raw, field=field)
    for _ in _WRAPPERS:
        value = _unwrapped(value)
    if not isinstance(value, dict):
        return made_error(
            value if isinstance(value, str) else bytes(raw)[:_SHOWN_BYTES_MAX].decode(errors="replace"), ""
        )
    name = _text(value.get("name"))[:NAME_CHARACTERS_MAX] or DEFAULT_NAME
    message = _text(value.get("message")) or _text(value.get("error"))
    stack = _text(value.get("stack"))
    # All is as it came; an SDK that receives it needs these two to make an exception of it.
    whole = {"name": name, "message": message, **value}
    shown = (message[:ERROR_MESSAGE_CHARACTERS_MAX], stack[:ERROR_STACK_CHARACTERS_MAX])
    return RemoteError(name, *shown, canonical_json(encode(whole), field))


def read_failed_body(body: bytes, status: int) -> RemoteError:
    """Return the error in the body of a failed call, which may be JSON, text or empty."""
    text = body[:_SHOWN_BYTES_MAX].decode(errors="replace").strip()
    try:
        error = read_error(body)
    except InvalidInput:
        error = made_error(text, "")
    return error if error.message else made_error(f"the app answered {status} without an error message", "", stack=text)


def _unwrapped(value: Json) -> Json:
    """Return the error inside `{"error": {...}}` or `{"body": "..."}`."""
    if not isinstance(value, dict) or "message" in value:
        return value
    inner = value.get("error") if isinstance(value.get("error"), dict) else value.get("body")
    if isinstance(inner, str):
        try:
            return load_json(inner.encode())
        except InvalidInput:
            return inner
    return inner if isinstance(inner, dict) else value


def _text(value: Json) -> str:
    return value if isinstance(value, str) else ""
