"""The conditions of triggers and waits: checked once, frozen with the run's own event, evaluated against others."""

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from stepstream.contract.codec import Json
from stepstream.contract.events import EVENT_FIELDS
from stepstream.expressions.comprehensions import Code
from stepstream.expressions.errors import EvaluationError, ExpressionError, error_at
from stepstream.expressions.evaluation import compile_node
from stepstream.expressions.frames import Frame, Value
from stepstream.expressions.limits import (
    EVALUATION_VISITS_MAX,
    INDEX_KEY_CHARACTERS_MAX,
    PATH_CHARACTERS_MAX,
    PATH_SEGMENTS_MAX,
    PROGRAMS_CACHED_MAX,
)
from stepstream.expressions.syntax import Binary, Logical, Node, Select, Variable, children, member_path, walk
from stepstream.expressions.translation import translate
from stepstream.expressions.values import type_name

__all__ = [
    "MISSING",
    "Equality",
    "EvaluationError",
    "ExpressionError",
    "Frozen",
    "Meter",
    "check",
    "check_path",
    "freeze",
    "freeze_match",
    "holds",
    "index_key",
    "lookup",
]

OWN, OTHER = "event", "async"
Scalar = str | int | float | bool


class Missing:
    """The type of MISSING, the value of a path that leads nowhere."""


MISSING: Final = Missing()


@dataclass(frozen=True, slots=True)
class Equality:
    """The candidate's value at `path` must equal `value`."""

    path: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class Frozen:
    """A condition in which the run's own event is substituted.

    It holds if all `equalities` hold and the `residual`, if any, is true under `bindings`; never, if `never` is set.
    `visits` is the work that the evaluation of the run's own parts took.
    """

    equalities: tuple[Equality, ...] = ()
    residual: str | None = None
    bindings: Mapping[str, Json] = field(default_factory=dict)
    never: bool = False
    visits: int = 0


_NEVER = Frozen((), None, {}, never=True)


@functools.lru_cache(PROGRAMS_CACHED_MAX)
def _program(source: str, names: tuple[str, ...]) -> Code:
    node = _parsed(source, names)
    return compile_node(node, {name: slot for slot, name in enumerate(names)})


def _parsed(source: str, names: tuple[str, ...]) -> Node:
    found = _parsed_or_not(source, names)
    if isinstance(found, ExpressionError):
        raise found.with_traceback(None)
    return found


@functools.lru_cache(PROGRAMS_CACHED_MAX)
def _parsed_or_not(source: str, names: tuple[str, ...]) -> Node | ExpressionError:
    """Return the syntax tree of an expression, or its error: both are cached, since both take as long to find."""
    try:
        node = translate(source)
        _check_variables(source, node, frozenset(names))
    except ExpressionError as error:
        error.__context__ = None  # It holds the whole state of the parser.
        return error.with_traceback(None)
    return node


def _check_variables(source: str, node: Node, variables: frozenset[str]) -> None:
    for part in walk(node):
        if isinstance(part, Variable) and part.name not in variables:
            names = " and ".join(sorted(variables))
            raise error_at(source, part.span.start, f"{part.name!r} is unknown here; use {names}")


@functools.lru_cache(PROGRAMS_CACHED_MAX)
def check(source: str, variables: frozenset[str]) -> None:
    """Raise ExpressionError, with line, column and reason, unless `source` is an expression on these variables.

    It also refuses a field that no event has: the condition would never hold.
    """
    names = tuple(sorted(variables))
    _program(source, names)
    for part in walk(_parsed(source, names)):
        if isinstance(part, Select) and isinstance(part.operand, Variable) and part.operand.name in (OWN, OTHER):
            _check_field(source, part.span.start, part.operand.name, part.field)


def _check_field(source: str, offset: int, variable: str, field: str) -> None:
    if field not in EVENT_FIELDS:
        meant = ".".join(filter(None, (variable, "data", field)))
        raise error_at(source, offset, f"an event has no {field!r}, only {', '.join(EVENT_FIELDS)}; is {meant} meant?")


class Meter(Protocol):
    """A counter that sums the work of evaluations, in visits."""

    visits: int


def evaluate(source: str, bindings: Mapping[str, Json], meter: Meter | None = None) -> Value:
    """Return the value of an expression; raise EvaluationError if it has none or exceeds its budget."""
    frame = Frame(list(bindings.values()))
    try:
        return _program(source, tuple(bindings))(frame)
    except ExpressionError as error:
        raise EvaluationError(str(error)) from None
    except RecursionError:
        raise EvaluationError("the values are nested too deeply; compare inner fields") from None
    finally:
        if meter is not None:
            meter.visits += EVALUATION_VISITS_MAX - frame.visits_left


def holds(source: str, bindings: Mapping[str, Json], meter: Meter | None = None) -> bool:
    """Evaluate an expression to true or false; raise EvaluationError if it is neither or exceeds its budget.

    Null equals null, a missing field is an error, and so is anything but a bool: the same for triggers and waits.
    """
    result = evaluate(source, bindings, meter)
    if result is True or result is False:
        return bool(result)
    raise EvaluationError(f"the result is of type {type_name(result)}; it must be true or false")


def lookup(root: Json, path: str) -> Json | Missing:
    """Return the value at a dotted path through objects, MISSING if there is none."""
    value = root
    for segment in path.split("."):
        if not isinstance(value, dict) or segment not in value:
            return MISSING
        value = value[segment]
    return value


def index_key(value: Json | Missing) -> str | None:
    """Return the index key of a scalar, None if it cannot be indexed; values that are equal in CEL share one."""
    match value:
        case bool():
            key = "t" if value else "f"
        case str():
            key = f"s{value}"
        case int():
            key = f"n{value}"
        case float() if math.isfinite(value):
            key = f"n{int(value)}" if value.is_integer() else f"n{value!r}"
        case _:
            return None
    return key if len(key) <= INDEX_KEY_CHARACTERS_MAX else None


def check_path(path: str) -> None:
    """Raise ExpressionError unless `path` is a valid path for match=, for example data.user_id."""
    segments = path.split(".")
    if not path or len(path) > PATH_CHARACTERS_MAX or len(segments) > PATH_SEGMENTS_MAX:
        raise ExpressionError(path[:PATH_CHARACTERS_MAX], 1, 1, "this is not a path; write it as data.user_id")
    for segment in segments:
        if not segment or not segment.isprintable() or set(segment) & set("[]()\"' "):
            raise ExpressionError(
                path, 1, max(path.find(segment), 0) + 1, "this is not a path; write it as data.user_id"
            )
    _check_field(path, 0, "", segments[0])


def freeze_match(path: str, event: Mapping[str, Json]) -> Frozen:
    """Freeze match=`path`: both events have the same value there; a path that is missing or null never matches."""
    value = lookup(dict(event), path)
    if isinstance(value, str | int | float | bool) and index_key(value) is not None:
        return Frozen((Equality(path, value),), None, {})
    if value is None or isinstance(value, Missing):
        return _NEVER
    segments = "".join(f"[{_quoted(segment)}]" for segment in path.split("."))
    return Frozen((), f"{OTHER}{segments} == {OWN}{segments}", _nested(path.split("."), value))


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _nested(segments: list[str], value: Json) -> dict[str, Json]:
    built: Json = value
    for segment in reversed(segments):
        built = {segment: built}
    return {OWN: built}


def freeze(source: str, event: Mapping[str, Json]) -> Frozen:
    """Substitute the run's own event in an expression on `event` and `async`; raise ExpressionError.

    Conjuncts on `event` alone are evaluated now. An equality of an `async` path and a scalar can be indexed; the others
    are the residual. The result matches exactly the events for which the expression holds. That includes null: only
    match= has a separate rule for it.
    """
    node = _parsed(source, (OTHER, OWN))
    frame = Frame([event])
    equalities: list[Equality] = []
    rest: list[Node] = []
    for conjunct in node.operands if isinstance(node, Logical) and node.operator == "&&" else (node,):
        names = _variables(conjunct)
        if OTHER not in names:
            if _value(conjunct, frame) is not True:
                return _never(frame)
            continue
        found = _equality(conjunct, frame)
        if isinstance(found, Equality):
            equalities.append(found)
        elif found is False:
            return _never(frame)
        else:
            rest.append(conjunct)
    residual = " && ".join(f"({source[part.span.start : part.span.end]})" for part in rest) or None
    return Frozen(tuple(equalities), residual, _bindings(rest, event) if rest else {}, visits=_visits(frame))


def _never(frame: Frame) -> Frozen:
    return Frozen(never=True, visits=_visits(frame))


def _visits(frame: Frame) -> int:
    return EVALUATION_VISITS_MAX - frame.visits_left


def _variables(node: Node) -> set[str]:
    return {part.name for part in walk(node) if isinstance(part, Variable)}


def _value(node: Node, frame: Frame) -> Value:
    try:
        return compile_node(node, {OWN: 0})(frame)
    except (EvaluationError, RecursionError):
        return MISSING


def _equality(node: Node, frame: Frame) -> Equality | bool:
    """Return `node` as an equality that can be indexed; False if it can never hold, True if it is anything else."""
    if not isinstance(node, Binary) or node.operator != "==":
        return True
    for side, other in ((node.left, node.right), (node.right, node.left)):
        member = member_path(side)
        if member is None or member[0] != OTHER or not member[1] or OTHER in _variables(other):
            continue
        if any("." in name for name in member[1]):
            return True
        value: Any = _value(other, frame)
        if value is MISSING:
            return False
        plain = value.__class__ in (str, int, float, bool)
        return Equality(".".join(member[1]), value) if plain and index_key(value) is not None else True
    return True


def _bindings(nodes: list[Node], event: Mapping[str, Json]) -> dict[str, Json]:
    """Return only the parts of the run's own event that `nodes` refer to."""
    pruned: dict[str, Json] = {}
    pending = list(nodes)
    while pending:
        node = pending.pop()
        member = member_path(node)
        if member is None:
            pending.extend(children(node))
        elif member[0] == OWN:
            if not member[1]:
                return {OWN: dict(event)}
            _graft(pruned, member[1], event)
    return {OWN: pruned}


def _graft(pruned: dict[str, Json], fields: tuple[str, ...], event: Mapping[str, Json]) -> None:
    source: Any = event
    target: Any = pruned
    for name in fields[:-1]:
        if not isinstance(source, Mapping) or name not in source:
            return
        source = source[name]
        below = target.get(name)
        if below is source:
            return
        if not isinstance(source, Mapping):
            target[name] = source
            return
        if below is None:
            below = target[name] = {}
        target = below
    if isinstance(source, Mapping) and fields[-1] in source:
        target[fields[-1]] = source[fields[-1]]
