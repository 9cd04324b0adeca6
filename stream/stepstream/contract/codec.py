"""JSON as records and rows use it: fast for our own types, strict for the values of users."""

import json
import math
from typing import Any

import msgspec

from stepstream.contract.errors import InvalidInput, NotJson

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Raw = msgspec.Raw
NULL = Raw(b"null")
EMPTY_OBJECT = Raw(b"{}")

_DEPTH_MAX = 100
# The engine puts what it was given into events of its own: a result, or the event of a run that failed.
_OWN_LEVELS = 10
encode = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode


class TypedRecord(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """A record that says by its `type` which of those of its topic it is."""


def load_json(raw: bytes | Raw, *, own: bool = False) -> Json:
    """Return the JSON value in `raw`; raise InvalidInput for anything else, and for what is nested too deeply.

    What is the engine's `own` may be some levels deeper than what comes from outside: that is in it.
    """
    try:
        result: Json = _decode_json(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"no JSON: {error}") from None
    text = bytes(raw)
    levels = _DEPTH_MAX + _OWN_LEVELS * own
    if text.count(b"[") + text.count(b"{") > levels and _is_deep(result, levels):
        raise InvalidInput(f"it is nested deeper than {levels} levels")
    return result


def _is_deep(value: Json, levels: int) -> bool:
    level = [value]
    for _ in range(levels + 1):
        inner = [item for item in level if isinstance(item, list | dict)]
        if not inner:
            return False
        level = [part for item in inner for part in (item.values() if isinstance(item, dict) else item)]
    return True


def dump_json(value: object, what: str = "value") -> Raw:
    """Return `value` as compact JSON; raise NotJson with the path and the type of the first part that is none."""
    try:
        raw = Raw(json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode())
        # Keys that are no text would be turned into text; a value that reads back as it was has none.
        fault = None if load_json(raw) == value else _first_fault(value, "$", 0)
    except InvalidInput:
        fault = _first_fault(value, "$", 0) or ("$", f"it is nested deeper than {_DEPTH_MAX} levels")
    except (TypeError, ValueError, RecursionError):
        fault = _first_fault(value, "$", 0) or ("$", "it cannot be encoded")
    if fault:
        path, reason = fault
        raise NotJson(f"the {what} is no JSON: {reason}", path)
    return raw


def _first_fault(value: Any, path: str, depth: int) -> tuple[str, str] | None:
    if depth > _DEPTH_MAX:
        return path, f"it is nested deeper than {_DEPTH_MAX} levels"
    match value:
        case None | bool() | int():
            return None
        case str():
            return None if value.isascii() or _encodes(value) else (path, "a text with a lone surrogate")
        case float():
            return None if math.isfinite(value) else (path, f"{value} has no form in JSON")
        case list() | tuple():
            faults = (_first_fault(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value))
        case dict():
            if odd := next((key for key in value if not isinstance(key, str)), None):
                return path, f"the key {odd!r} is of type {type(odd).__name__}, keys are text"
            faults = (_first_fault(item, f"{path}.{key}", depth + 1) for key, item in value.items())
        case _:
            return path, (
                f"a {type(value).__module__}.{type(value).__qualname__} is found there; return plain JSON values, "
                "or say the return type of the step when it is a pydantic model or a dataclass"
            )
    return next((fault for fault in faults if fault), None)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
