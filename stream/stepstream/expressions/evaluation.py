"""The compiler: a syntax tree becomes nested Python closures, built once and called for every event.

JSON values are used without conversion, so a member path is a few look-ups. An error is a Fault that is raised; `&&`
and `||` catch it until they know whether another operand decides, whatever the order.
"""

from collections.abc import Mapping
from typing import TypeAlias, assert_never

from stepstream.expressions import closures
from stepstream.expressions.comprehensions import COMPREHENSIONS, Code, Loop
from stepstream.expressions.frames import Value
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
    children,
    member_path,
    walk,
)

Slots: TypeAlias = Mapping[str, int]


def compile_node(node: Node, slots: Slots) -> Code:  # noqa: C901 - one line a kind of node
    """Return the code of `node`; `slots` has the slot of each variable in a frame, and elements follow them."""
    member = member_path(node)
    if member is not None:
        return closures.path(slots[member[0]], member[1], member[0])
    if isinstance(node, Has):
        return _has(node, slots)
    parts = [compile_node(child, slots) for child in children(node)]
    match node:
        case Literal(_, value):
            return _constant(value)
        case Element(_, level):
            return _element(len(slots) + level)
        case Select(_, _, field):
            return closures.select(parts[0], field)
        case Index():
            return closures.index(parts[0], parts[1])
        case Call(_, name, _):
            return closures.call(FUNCTIONS[name].run, parts)
        case Unary(_, symbol, _):
            return closures.negation(parts[0]) if symbol == "!" else closures.negative(parts[0])
        case Binary(_, symbol, _, _):
            return closures.binary(symbol, parts[0], parts[1])
        case Logical(_, symbol, _):
            return closures.logical(parts, decisive=symbol == "||")
        case Conditional():
            return closures.conditional(parts[0], parts[1], parts[2])
        case ListDisplay():
            return closures.list_display(parts)
        case MapDisplay():
            return closures.map_display(parts)
        case Comprehension(_, macro, level, _, condition, body):
            visits = 1 + sum(1 for part in (condition, body) if part for _ in walk(part))
            return COMPREHENSIONS[macro](Loop(parts[0], len(slots) + level, visits), *parts[1:])
        case Variable():
            raise AssertionError(node)  # A variable alone is a member path without fields.
        case _:
            assert_never(node)


def _constant(value: Value) -> Code:
    return lambda _frame: value


def _element(slot: int) -> Code:
    return lambda frame: frame.variables[slot]


def _has(node: Has, slots: Slots) -> Code:
    selected = node.operand
    if not isinstance(selected, Select):
        raise AssertionError(node)  # The translation has refused anything else.
    return closures.has(compile_node(selected.operand, slots), selected.field)
