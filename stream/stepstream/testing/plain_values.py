"""Plain copies of users' values, which can be compared later, whatever happens to the originals."""

import re
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from typing import Any

from stepstream.sdk.deferred import is_model

_SCALARS = (type(None), bool, int, float, str, bytes)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
_DEPTH_MAX = 50
_TEXT_CHARACTERS_MAX = 200


def plain_value(value: Any, depth: int = 0) -> Any:
    """Return a copy of `value` of dicts, lists and scalars; an object of another type becomes its `repr`.

    Two objects without a `repr` count as equal if their types are equal.
    """
    if type(value) in _SCALARS:
        return value
    if depth > _DEPTH_MAX:
        return "…"
    if isinstance(value, Mapping):
        return {str(key): plain_value(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain_value(item, depth + 1) for item in value]
    if isinstance(value, Set):
        return sorted(repr(plain_value(item, depth + 1)) for item in value)
    if is_model(value):
        parts = [(field.name, getattr(value, field.name)) for field in fields(value)] if is_dataclass(value) else value
        return {name: plain_value(item, depth + 1) for name, item in parts}
    if callable(value):
        return str(getattr(value, "__qualname__", type(value).__qualname__))
    return _ADDRESS.sub("", repr(value))


def first_difference(one: Any, two: Any, path: str = "") -> tuple[str, str, str]:
    """Return the path of the first difference of two plain values, and both values there as text."""
    if isinstance(one, dict) and isinstance(two, dict):
        for key in {**one, **two}:
            if key not in one or key not in two or one[key] != two[key]:
                below = f"{path}.{key}" if path else key
                return first_difference(one.get(key, _MISSING), two.get(key, _MISSING), below)
    if isinstance(one, list) and isinstance(two, list):
        for index in range(max(len(one), len(two))):
            parts = [items[index] if index < len(items) else _MISSING for items in (one, two)]
            if parts[0] != parts[1]:
                return first_difference(parts[0], parts[1], f"{path}[{index}]")
    return path or "value", _text(one), _text(two)


class _Missing:
    def __repr__(self) -> str:
        return "missing"


_MISSING = _Missing()


def _text(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _TEXT_CHARACTERS_MAX else text[:_TEXT_CHARACTERS_MAX] + "…"
