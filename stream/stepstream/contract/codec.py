"""JSON of records and rows: fast for our own types, strict for the values of users."""

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
# Events of the engine contain values from outside: a result, or the event of a run that failed.
_OWN_LEVELS = 10
encode = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode
_encode_json = json.JSONEncoder(allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode


class TypedRecord(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True):
    """A record whose `type` distinguishes it from the other records of its topic."""


def load_json(raw: bytes | Raw, *, own: bool = False, field: str = "") -> Json:
    """Return the JSON value in `raw`; raise InvalidInput if it is not JSON or is nested too deeply.

    Values of the engine (`own`) may be a few levels deeper, because they contain values from outside.
    """
    try:
        result: Json = _decode_json(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"not valid JSON: {error}", field) from None
    text = bytes(raw)
    levels = _DEPTH_MAX + _OWN_LEVELS * own
    if text.count(b"[") + text.count(b"{") > levels and _is_deep(result, levels):
        raise InvalidInput(f"nested deeper than {levels} levels", field)
    return result


def _is_deep(value: Json, levels: int) -> bool:
    level = [value]
    for _ in range(levels + 1):
        inner = [item for item in level if isinstance(item, list | dict)]
        if not inner:
            return False
        level = [part for item in inner for part in (item.values() if isinstance(item, dict) else item)]
    return True


def object_json(value: object, field: str) -> Raw:
    """Return an object as JSON, that of None is empty; raise InvalidInput for any other value."""
    payload = EMPTY_OBJECT if value is None else dump_json(value, field)
    if not bytes(payload).startswith(b"{"):
        raise InvalidInput(f"use a JSON object, not a value of type {type_name(value)}", field)
    return payload


def dump_json(value: object, what: str = "value") -> Raw:
    """Return `value` as compact JSON; raise NotJson with the path and the type of the first part that is not JSON."""
    try:
        raw = Raw(_encode_json(value).encode())
        # The encoder turns keys of other types into text; the comparison finds them without a walk in the common case.
        fault = None if load_json(raw) == value else _first_fault(value, "$", 0)
    except InvalidInput:
        fault = _first_fault(value, "$", 0) or ("$", f"nested deeper than {_DEPTH_MAX} levels")
    except (TypeError, ValueError, RecursionError):
        fault = _first_fault(value, "$", 0) or ("$", "cannot be encoded")
    if fault:
        path, reason = fault
        raise NotJson(f"the {what} is not JSON: {reason}", path)
    return raw


def _first_fault(value: Any, path: str, depth: int) -> tuple[str, str] | None:
    if depth > _DEPTH_MAX:
        return path, f"nested deeper than {_DEPTH_MAX} levels"
    match value:
        case None | bool() | int():
            return None
        case str():
            return (path, "a string with a lone surrogate") if has_lone_surrogate(value) else None
        case float():
            return None if math.isfinite(value) else (path, f"JSON has no {value}")
        case list() | tuple():
            faults = (_first_fault(item, f"{path}[{i}]", depth + 1) for i, item in enumerate(value))
        case dict():
            for key in value:
                if not isinstance(key, str):
                    return path, f"the key {key!r} is of type {type(key).__name__}; use string keys"
                if has_lone_surrogate(key):
                    return path, f"the key {key!r} has a lone surrogate"
            faults = (_first_fault(item, f"{path}.{key}", depth + 1) for key, item in value.items())
        case _:
            return path, f"a value of type {type_name(value)}; convert it to plain JSON values"
    return next((fault for fault in faults if fault), None)


def type_name(value: object) -> str:
    """Return the name of a value's type, with its module unless it is built in."""
    kind = type(value)
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def has_lone_surrogate(text: str) -> bool:
    """Return whether `text` has half of a surrogate pair, which has no form in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
