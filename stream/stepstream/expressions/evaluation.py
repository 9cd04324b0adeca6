"""The evaluator: a syntax tree becomes nested Python closures, built once and called for every event.

JSON is used as it is, so nothing is converted, and a member path is a few look-ups. An error is a Fault in flight;
`&&` and `||` hold it back until the other operands have had their say, whatever their order.
"""

import operator
from collections.abc import Callable, Mapping
from typing import TypeAlias

from stepstream.expressions.arithmetic import calculate, negate
from stepstream.expressions.comprehensions import COMPREHENSIONS, Code, Loop
from stepstream.expressions.errors import Fault
from stepstream.expressions.frames import Frame, Value
from stepstream.expressions.functions import FUNCTIONS
from stepstream.expressions.syntax import (
    Binary,
    Call,
    Comprehension,
    Conditional,
    Element,
    Has,
    Index,
    ListDisplay,
    Literal,
    Logical,
    MapDisplay,
    Node,
    Select,
    Unary,
    Variable,
    member_path,
    walk,
)
from stepstream.expressions.values import compare, contains_element, equal, no_overload, type_name

Slots: TypeAlias = Mapping[str, int]

_COMPARISONS: dict[str, Callable[[Value, Value], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_MISFITS = (KeyError, TypeError, IndexError)


def compile_node(node: Node, slots: Slots) -> Code:
    """Return the code of `node`; `slots` says where each variable is in a frame, elements come after them."""
    path = member_path(node)
    if path is not None:
        return _path(slots[path[0]], path[1], path[0])
    parts = _operands(node, slots)
    match node:
        case Literal(_, value):
            return lambda frame: value
        case Element(_, level):
            slot = len(slots) + level
            return lambda frame: frame.variables[slot]
        case Select(_, _, field):
            return _select(parts[0], field)
        case Index():
            return _index(*parts)
        case Call(_, name, _):
            return _call(FUNCTIONS[name].run, parts)
        case Has():
            return _has(*parts)
        case Unary(_, symbol, _):
            return _not(*parts) if symbol == "!" else _negative(*parts)
        case Binary(_, symbol, _, right):
            return _texts_membership(node, parts[0]) or _binary(symbol, *parts)
        case Logical(_, symbol, _):
            return _logical(parts, decisive=symbol == "||")
        case Conditional():
            return _conditional(*parts)
        case ListDisplay():
            return lambda frame: [part(frame) for part in parts]
        case MapDisplay():
            return _map_display(parts)
        case Comprehension(_, macro, level, _, condition, body):
            visits = 1 + sum(1 for part in (condition, body) if part for _ in walk(part))
            return COMPREHENSIONS[macro](Loop(parts[0], len(slots) + level, visits), *parts[1:])
    raise AssertionError(node)
