"""The syntax tree of an expression, with variables resolved, macros expanded and parentheses removed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from stepstream.expressions.frames import Value


@dataclass(frozen=True, slots=True)
class Span:
    """Offsets into the source: the text of a node is `source[start:end]`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Literal:
    span: Span
    value: Value


@dataclass(frozen=True, slots=True)
class Variable:
    """A variable that the caller binds, such as `event`."""

    span: Span
    name: str


@dataclass(frozen=True, slots=True)
class Element:
    """The variable of an enclosing comprehension; level 0 is the outermost one."""

    span: Span
    level: int


@dataclass(frozen=True, slots=True)
class Select:
    """`operand.field`, and `operand["field"]`, which means the same."""

    span: Span
    operand: "Node"
    field: str


@dataclass(frozen=True, slots=True)
class Index:
    span: Span
    operand: "Node"
    index: "Node"


@dataclass(frozen=True, slots=True)
class Call:
    """A function, or a method with its receiver as the first argument."""

    span: Span
    function: str
    arguments: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Has:
    span: Span
    operand: "Node"


@dataclass(frozen=True, slots=True)
class Unary:
    """`!` or `-`."""

    span: Span
    operator: str
    operand: "Node"


@dataclass(frozen=True, slots=True)
class Binary:
    """A relation or an arithmetic operation."""

    span: Span
    operator: str
    left: "Node"
    right: "Node"


@dataclass(frozen=True, slots=True)
class Logical:
    """`&&` or `||` over two or more operands; nested ones of the same kind are one node."""

    span: Span
    operator: str
    operands: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class Conditional:
    span: Span
    condition: "Node"
    chosen: "Node"
    otherwise: "Node"


@dataclass(frozen=True, slots=True)
class ListDisplay:
    span: Span
    items: tuple["Node", ...]


@dataclass(frozen=True, slots=True)
class MapDisplay:
    span: Span
    entries: tuple[tuple["Node", "Node"], ...]


@dataclass(frozen=True, slots=True)
class Comprehension:
    """One of the macros all, exists, exists_one, filter and map; only a map of three arguments has a condition."""

    span: Span
    macro: str
    level: int
    elements: "Node"
    condition: "Node | None"
    body: "Node"


Node: TypeAlias = (
    Literal
    | Variable
    | Element
    | Select
    | Index
    | Call
    | Has
    | Unary
    | Binary
    | Logical
    | Conditional
    | ListDisplay
    | MapDisplay
    | Comprehension
)


def children(node: Node) -> tuple[Node, ...]:  # noqa: C901 - one line a kind of node
    """Return the nodes directly below `node`."""
    match node:
        case Literal() | Variable() | Element():
            return ()
        case Select(_, operand) | Has(_, operand) | Unary(_, _, operand):
            return (operand,)
        case Index(_, operand, index):
            return (operand, index)
        case Call(_, _, arguments):
            return arguments
        case Binary(_, _, left, right):
            return (left, right)
        case Logical(_, _, operands):
            return operands
        case Conditional(_, condition, chosen, otherwise):
            return (condition, chosen, otherwise)
        case ListDisplay(_, items):
            return items
        case MapDisplay(_, entries):
            return tuple(part for entry in entries for part in entry)
        case Comprehension(_, _, _, elements, condition, body):
            return (elements, body) if condition is None else (elements, condition, body)


def walk(node: Node) -> Iterator[Node]:
    """Yield `node` and every node below it, in the order of the source."""
    pending = [node]
    while pending:
        current = pending.pop()
        yield current
        pending.extend(reversed(children(current)))


def member_path(node: Node) -> tuple[str, tuple[str, ...]] | None:
    """Return the variable and the fields of `variable.field.field`, None if `node` is anything else."""
    fields: list[str] = []
    while isinstance(node, Select):
        fields.append(node.field)
        node = node.operand
    return (node.name, tuple(reversed(fields))) if isinstance(node, Variable) else None
