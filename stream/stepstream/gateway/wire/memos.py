"""Memos: the results of steps in the shapes by which SDKs recognise them."""

from typing import assert_never

from stepstream.contract.codec import NULL, Raw, encode
from stepstream.contract.events import decode_stored_event
from stepstream.contract.kinds import StepKind
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, TimedOut, Value
from stepstream.gateway.wire.canonical import canonical_json
from stepstream.gateway.wire.internal_events import event_json

# The name and the message by which SDKs and their suites know this error.
INVOKE_TIMEOUT_NAME = "InngestInvokeTimeoutError"
INVOKE_TIMEOUT_MESSAGE = "Timed out waiting for invoked function to complete"


def memo_json(kind: StepKind, outcome: Outcome, *, signal: str = "") -> Raw:
    """Return the memo of a step in canonical JSON.

    `signal` is the name for which the step waited.
    """
    match outcome:
        case Value(data):
            return _value(kind, data, signal)
        case Failure(info, raw):
            return _wrapped(b"error", raw if bytes(raw) != b"null" else _error(info))
        case TimedOut():
            return _timeout(kind)
        case _:
            assert_never(outcome)


def _value(kind: StepKind, data: Raw, signal: str) -> Raw:
    match kind:
        case StepKind.SLEEP:
            return NULL
        case StepKind.WAIT:
            return event_json(decode_stored_event(data))
        case StepKind.SIGNAL:
            return _wrapped(b"data", encode({"signal": signal, "data": data}))
        case StepKind.RUN | StepKind.SEND | StepKind.INVOKE:
            return _wrapped(b"data", data)
        case _:
            assert_never(kind)


def _timeout(kind: StepKind) -> Raw:
    if kind == StepKind.INVOKE:
        shown = {"name": INVOKE_TIMEOUT_NAME, "message": INVOKE_TIMEOUT_MESSAGE, "error": INVOKE_TIMEOUT_MESSAGE}
        return _wrapped(b"error", encode(shown))
    return NULL


def _error(info: ErrorInfo) -> bytes:
    shown = {"name": info.name, "message": info.message}
    return encode({**shown, "stack": info.stack} if info.stack else shown)


def _wrapped(name: bytes, inner: bytes | Raw) -> Raw:
    """Return an object with one field; what it contains is wrapped once, whatever it looks like."""
    return Raw(b'{"' + name + b'":' + bytes(canonical_json(inner)) + b"}")
