"""The closures that expressions compile to: one kind for each kind of node, over the closures of its parts."""

import operator
from collections.abc import Callable, Mapping, Sequence

from stepstream.expressions.arithmetic import calculate, negate
from stepstream.expressions.comprehensions import Code
from stepstream.expressions.errors import Fault
from stepstream.expressions.frames import Frame, Value
from stepstream.expressions.limits import BUILT_ITEMS_MAX
from stepstream.expressions.values import Uint, compare, contains_element, equal, no_overload, type_name

_COMPARISONS: dict[str, Callable[[Value, Value], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def path(slot: int, fields: Sequence[str], name: str) -> Code:
    """Return the code of `variable.field.field`."""
    fixed = tuple(fields)

    def run(frame: Frame) -> Value:
        value = frame.variables[slot]
        for field in fixed:
            value = _field(value, field, name)
        return value

    return run


def _field(value: Value, field: str, name: str) -> Value:
    if not isinstance(value, Mapping):
        raise Fault(f"{type_name(value)} has no field {field!r} (below {name})")
    if field not in value:
        raise Fault(f"there is no field {field!r} (below {name})")
    return value[field]


def select(operand: Code, field: str) -> Code:
    """Return the code of `operand.field`."""
    return lambda frame: _field(operand(frame), field, "an expression")


def has(operand: Code, field: str) -> Code:
    """Return the code of `has(operand.field)`."""

    def run(frame: Frame) -> bool:
        value = operand(frame)
        if not isinstance(value, Mapping):
            raise no_overload("has()", value)
        return field in value

    return run


def index(operand: Code, position: Code) -> Code:
    """Return the code of `operand[position]`."""

    def run(frame: Frame) -> Value:
        container, at = operand(frame), position(frame)
        if isinstance(container, Mapping) and isinstance(at, str):
            return _field(container, at, "an expression")
        whole = at.__class__ in (int, Uint) or (isinstance(at, float) and at.is_integer())
        if isinstance(container, list) and whole:
            if 0 <= int(at) < len(container):
                return container[int(at)]
            raise Fault(f"the index {at} is out of range for a list of {len(container)}")
        raise no_overload("[]", container, at)

    return run


def call(function: Callable[..., Value], arguments: Sequence[Code]) -> Code:
    """Return the code of a function or method."""
    return lambda frame: function(frame, *[argument(frame) for argument in arguments])


def negation(operand: Code) -> Code:
    """Return the code of `!operand`."""

    def run(frame: Frame) -> bool:
        value = operand(frame)
        if value is True or value is False:
            return value is False
        raise no_overload("!", value)

    return run


def negative(operand: Code) -> Code:
    """Return the code of `-operand`."""
    return lambda frame: negate(operand(frame))


def binary(symbol: str, left: Code, right: Code) -> Code:
    """Return the code of a relation or an arithmetic operation."""
    match symbol:
        case "==":
            return lambda frame: equal(frame, left(frame), right(frame))
        case "!=":
            return lambda frame: not equal(frame, left(frame), right(frame))
        case "in":
            return lambda frame: contains_element(frame, left(frame), right(frame))
        case "<" | "<=" | ">" | ">=":
            test = _COMPARISONS[symbol]
            return lambda frame: compare(frame, symbol, test, left(frame), right(frame))
        case _:
            return lambda frame: calculate(frame, symbol, left(frame), right(frame))


def logical(parts: Sequence[Code], *, decisive: bool) -> Code:
    """Return the code of `||` (decided by true) or `&&` (by false); an error counts only if no part decides."""
    fixed = tuple(parts)

    def run(frame: Frame) -> bool:
        fault: Fault | None = None
        for part in fixed:
            try:
                value = part(frame)
            except Fault as error:
                fault = error
                continue
            if value is decisive:
                return value is True
            if value.__class__ is not bool:
                fault = no_overload("||" if decisive else "&&", value)
        if fault is not None:
            raise fault
        return not decisive

    return run


def conditional(condition: Code, chosen: Code, otherwise: Code) -> Code:
    """Return the code of `condition ? chosen : otherwise`."""

    def run(frame: Frame) -> Value:
        value = condition(frame)
        if value is True:
            return chosen(frame)
        if value is False:
            return otherwise(frame)
        raise no_overload("?:", value)

    return run


def list_display(parts: Sequence[Code]) -> Code:
    """Return the code of `[a, b]`."""
    return lambda frame: [part(frame) for part in parts]


def map_display(parts: Sequence[Code]) -> Code:
    """Return the code of `{"a": b}`; keys are strings."""

    def run(frame: Frame) -> dict[str, Value]:
        built: dict[str, Value] = {}
        for key_code, value_code in zip(parts[::2], parts[1::2], strict=True):
            key = key_code(frame)
            if not isinstance(key, str):
                raise no_overload("a map key", key)
            if key in built:
                raise Fault(f"the map has the key {key!r} twice")
            if len(built) >= BUILT_ITEMS_MAX:
                raise Fault(f"the map has more than {BUILT_ITEMS_MAX:,} keys")
            built[key] = value_code(frame)
        return built

    return run
