"""The result of a step of any kind: a value, an error or a timeout."""

from typing import assert_never

import msgspec

from stepstream.contract.codec import NULL, Raw, encode


class ErrorInfo(msgspec.Struct, frozen=True):
    """An error on the wire: the class, message and stack of a user's exception, or the code of an engine error.

    All fields are always written, so that handlers and clients need not check whether one exists.
    """

    name: str
    message: str = ""
    stack: str = ""
    code: str = ""


class Value(msgspec.Struct, frozen=True, tag="value", tag_field="type"):
    """The step returned a JSON value."""

    data: Raw = NULL


class Failure(msgspec.Struct, frozen=True, tag="error", tag_field="type", omit_defaults=True):
    """The step ended with an error that the function may catch.

    `raw` is the error object as an SDK of another language gave it, null if there is none.
    """

    error: ErrorInfo
    raw: Raw = NULL


class TimedOut(msgspec.Struct, frozen=True, tag="timeout", tag_field="type"):
    """The step timed out."""


Outcome = Value | Failure | TimedOut


def outcome_bytes(outcome: Outcome) -> int:
    """Return how many bytes a result adds to those of its run."""
    match outcome:
        case Value(data):
            return len(bytes(data))
        case Failure(error, raw):
            return len(encode(error)) + (0 if raw is NULL else len(bytes(raw)))
        case TimedOut():
            return 0
        case _:
            assert_never(outcome)
