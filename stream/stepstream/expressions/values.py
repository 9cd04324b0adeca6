"""The values of CEL: their types, when two of them are equal, and which of them have an order.

JSON needs no conversion: strings, true, false, null, lists and objects are CEL values, a number without a fraction or
exponent is an int, any other a double. Rules: https://github.com/google/cel-spec/blob/master/doc/langdef.md#equality
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import NoneType

from stepstream.expressions.errors import Fault
from stepstream.expressions.frames import Frame, Value
from stepstream.expressions.limits import TEXT_CHARACTERS_FREE, TEXT_CHARACTERS_PER_VISIT


class Uint(int):
    """An unsigned integer, which only a literal such as `5u` and the function uint() make."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class CelType:
    """A type as a value: what type(x) returns, and what the names int, string and so on mean."""

    name: str


_TYPES: dict[type, CelType] = {
    NoneType: CelType("null_type"),
    bool: CelType("bool"),
    int: CelType("int"),
    Uint: CelType("uint"),
    float: CelType("double"),
    str: CelType("string"),
    bytes: CelType("bytes"),
    list: CelType("list"),
    dict: CelType("map"),
    datetime: CelType("google.protobuf.Timestamp"),
    timedelta: CelType("google.protobuf.Duration"),
    CelType: CelType("type"),
}
TYPE_NAMES = {kind.name: kind for kind in _TYPES.values() if "." not in kind.name}
NUMBERS = frozenset((int, float, Uint))
_TEXTS = frozenset((str, bytes))
_ORDERED = frozenset((bool, int, float, str, bytes, Uint, datetime, timedelta))
_SCALARS = _ORDERED | {NoneType, CelType}


def type_of(value: Value) -> CelType:
    """Return the CEL type of `value`."""
    kind = dict if isinstance(value, Mapping) else value.__class__
    return _TYPES.get(kind) or CelType(kind.__name__)


def type_name(value: Value) -> str:
    """Return the name of the CEL type of `value`, for messages."""
    return type_of(value).name


def no_overload(operation: str, *operands: Value) -> Fault:
    """Return the error for operands whose types do not fit `operation`."""
    return Fault(f"{operation} does not take {' and '.join(type_name(operand) for operand in operands)}")


def charge_string(frame: Frame, length: int) -> None:
    """Charge for work that grows with the length of a string."""
    if length > TEXT_CHARACTERS_FREE:
        frame.charge(length // TEXT_CHARACTERS_PER_VISIT)


def equal(frame: Frame, left: Value, right: Value) -> bool:
    """Compare as CEL does: numbers by value whatever their types; unlike types are never equal; null equals null."""
    kind, other = left.__class__, right.__class__
    if kind is other and kind in _SCALARS:
        if kind in _TEXTS:
            charge_string(frame, len(left))
        return bool(left == right)
    if kind in NUMBERS and other in NUMBERS:
        return bool(left == right)
    return _is_container(left) and _is_container(right) and _equal_containers(frame, left, right)


def _is_container(value: Value) -> bool:
    return isinstance(value, list | Mapping)


def _equal_containers(frame: Frame, left: Value, right: Value) -> bool:
    # An explicit stack: JSON may be nested deeper than Python can recurse.
    pending = [(left, right)]
    while pending:
        one, two = pending.pop()
        if isinstance(one, list) != isinstance(two, list) or len(one) != len(two):
            return False
        frame.charge(1 + len(one))
        if not isinstance(one, list) and any(key not in two for key in one):
            return False
        pairs = zip(one, two, strict=True) if isinstance(one, list) else ((one[key], two[key]) for key in one)
        for a, b in pairs:
            if _is_container(a) and _is_container(b):
                pending.append((a, b))
            elif not equal(frame, a, b):
                return False
    return True


def contains_element(frame: Frame, element: Value, container: Value) -> bool:
    """Return `element in container`: an element of a list, or a key of a map."""
    if isinstance(container, list):
        for item in container:
            frame.charge(1)
            if equal(frame, item, element):
                return True
        return False
    if isinstance(container, Mapping):
        return element.__class__ is str and element in container
    raise no_overload("in", element, container)


def compare(frame: Frame, symbol: str, test: Callable[[Value, Value], bool], left: Value, right: Value) -> bool:
    """Return `test(left, right)` for two numbers or two values of one ordered type; raise Fault for others."""
    kind, other = left.__class__, right.__class__
    if kind is other and kind in _ORDERED:
        if kind in _TEXTS:
            charge_string(frame, min(len(left), len(right)))
        return test(left, right)
    if kind in NUMBERS and other in NUMBERS:
        return test(left, right)
    raise no_overload(symbol, left, right)
