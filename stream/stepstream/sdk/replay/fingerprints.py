"""Fingerprints of what the code passes to steps: they show that a replay calls steps of one id in another order."""

import functools
import zlib
from collections.abc import Mapping, Set
from dataclasses import dataclass, field, fields, is_dataclass
from enum import Enum
from typing import Any

from stepstream.contract.ids import step_hash
from stepstream.sdk.event import Event
from stepstream.sdk.replay.calls import Call, CallState, CallTable

_PARTS_MAX, _DEPTH_MAX, _CHARACTERS_MAX = 256, 8, 4_096
# Objects of these modules are values, and their repr is the same in every process.
_VALUE_MODULES = frozenset(("datetime", "decimal", "fractions", "pathlib", "uuid", "zoneinfo"))


def fingerprint(call: Call) -> int:
    """Return a checksum of what the code passes to a step, never 0; a part of a large value suffices.

    It is the same in every process. So an object that is not a plain value, a model or a function counts by its type:
    its `repr` may contain its address. Of the variables that a body takes from the code around it, only plain values
    count, such as the name of an item: others may be state that bodies change.
    """
    parts: list[str] = []
    try:
        _add(call.arguments if call.body is None else call.body, parts, 0)
    except Exception:  # noqa: BLE001 - a mapping or a model is the user's code, and only a warning is lost
        return 1
    return _checksum(parts)


def _checksum(parts: list[str]) -> int:
    return zlib.crc32("\0".join(parts).encode(errors="replace")) or 1


def _add(value: Any, parts: list[str], depth: int) -> None:
    if len(parts) >= _PARTS_MAX or depth > _DEPTH_MAX:
        return
    if isinstance(value, Enum):
        parts.append(f"{type(value).__qualname__}.{value.name}")
    elif value is None or isinstance(value, bool | float):
        parts.append(repr(value))
    elif isinstance(value, int):
        parts.append(hex(value)[:_CHARACTERS_MAX])
    elif isinstance(value, str | bytes):
        parts.append(f"{len(value)}:{value[:_CHARACTERS_MAX]!r}")
    elif isinstance(value, list | tuple):
        parts.append(f"[{len(value)}")
        for item in value:
            _add(item, parts, depth + 1)
    elif isinstance(value, Mapping | Set):
        items = value.items() if isinstance(value, Mapping) else value
        parts.append(f"{{{len(value)}")
        parts += sorted(_digest(item, depth + 1) for item in items)
    else:
        _add_object(value, parts, depth)


def _add_object(value: Any, parts: list[str], depth: int) -> None:
    kind = type(value)
    parts.append(str(getattr(value, "__qualname__", kind.__qualname__)))
    inner: list[Any] = []
    if kind.__module__.startswith("stepstream.") and not isinstance(value, Event):
        return  # The context, for example, counts attempts.
    if isinstance(value, functools.partial):
        inner = [value.func, value.args, value.keywords]
    elif kind.__module__ in _VALUE_MODULES or kind.__module__.startswith("pathlib."):
        parts.append(repr(value))
    elif is_dataclass(value):
        inner = [getattr(value, each.name) for each in fields(value)]
    elif hasattr(kind, "model_fields"):
        inner = [vars(value)]
    elif _is_plain(owner := getattr(value, "__self__", None)):
        inner = [owner]
    elif getattr(value, "__closure__", None):
        inner = [cell.cell_contents for cell in value.__closure__ if _is_plain(cell.cell_contents)]
    for each in inner:
        _add(each, parts, depth + 1)


def _is_plain(value: Any) -> bool:
    """Return whether a value cannot change."""
    if isinstance(value, tuple):
        return all(_is_plain(item) for item in value)
    plain = isinstance(value, str | bytes | int | float | Enum)
    return plain or type(value).__module__ in _VALUE_MODULES


def _digest(item: Any, depth: int) -> str:
    """Return the checksum of an item of a collection without an order."""
    parts: list[str] = []
    _add(item, parts, depth)
    return str(_checksum(parts))


@dataclass(slots=True)
class _Order:
    """The fingerprints of one id: those `missing` are stored with uses that have another one now, and those `moved`
    are now at a use that has no stored one, or another one.
    """

    missing: set[int] = field(default_factory=set)
    moved: set[int] = field(default_factory=set)


class Fingerprints:
    """Compares what the code passes to the steps of a run with what it passed when their results were stored.

    Only ids that the code uses more than once have fingerprints: other steps cannot be mistaken for one another, so
    they cost nothing. The first use gets one if it has not begun when the second one follows, as in a gather.
    """

    def __init__(self, calls: CallTable) -> None:
        self._calls = calls
        self._orders: dict[str, _Order] = {}

    def has_changed(self, call: Call, use: int, stored: int) -> bool:
        """Note a call; return whether it has other arguments than the stored one. `stored` is 0 if there is none.

        Do not call it for the first use of an id if the stored result has no fingerprint.
        """
        order = self._orders.setdefault(call.id, _Order())
        if use == 1:
            self._note_first(call.id, order)
        call.fingerprint = found = call.fingerprint or fingerprint(call)
        if found == stored:
            return False
        order.moved.add(found)
        if stored:
            order.missing.add(stored)
        return bool(stored)

    def is_reordered(self, step_id: str) -> bool:
        """Return whether a call has the arguments that are stored with another use of its id."""
        order = self._orders.get(step_id)
        return order is not None and not order.missing.isdisjoint(order.moved)

    def _note_first(self, step_id: str, order: _Order) -> None:
        first = self._calls.get(step_hash(step_id, 0))
        if first is not None and first.state is CallState.NEW and not first.fingerprint:
            first.fingerprint = fingerprint(first)
            order.moved.add(first.fingerprint)
