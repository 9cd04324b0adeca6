"""What triggers and waits ask of an event: checked once, frozen against the run's own event, held against others."""

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
    """Stands for a value that is not there."""


MISSING: Final = Missing()


@dataclass(frozen=True, slots=True)
class Equality:
    """The candidate's value at `path` must equal `value`."""

    path: str
    value: Scalar


@dataclass(frozen=True, slots=True)
class Frozen:
    """A predicate with the run's own event put in: all equalities hold, and `residual` under `bindings`, or `never`.

    `visits` is what the evaluation of its own parts took.
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
    """Return the syntax tree of an expression, or what is wrong with it, which takes as long to find."""
    try:
        node = translate(source)
        _check_variables(source, node, frozenset(names))
    except ExpressionError as error:
        error.__context__ = None  # It has the whole state of the parser.
        return error.with_traceback(None)
    return node


def _check_variables(source: str, node: Node, variables: frozenset[str]) -> None:
    for part in walk(node):
        if isinstance(part, Variable) and part.name not in variables:
            names = " and ".join(sorted(variables))
            raise error_at(source, part.span.start, f"{part.name!r} is unknown here; there is {names}")


@functools.lru_cache(PROGRAMS_CACHED_MAX)
def check(source: str, variables: frozenset[str]) -> None:
    """Raise ExpressionError, with line, column and reason, unless `source` is an expression on these variables.

    What is no field of an event is refused, too: it would be missing in each, and so never hold.
    """
    names = tuple(sorted(variables))
    _program(source, names)
    for part in walk(_parsed(source, names)):
        if isinstance(part, Select) and isinstance(part.operand, Variable) and part.operand.name in (OWN, OTHER):
            _check_field(source, part.span.start, part.operand.name, part.field)


def _check_field(source: str, offset: int, variable: str, field: str) -> None:
    if field not in EVENT_FIELDS:
        meant = ".".join(filter(None, (variable, "data", field)))
        raise error_at(source, offset, f"an event has {', '.join(EVENT_FIELDS)}, and no {field!r}; is {meant} meant?")


class Meter(Protocol):
    """Whoever adds up the work of evaluations, in visits."""

    visits: int


def evaluate(source: str, bindings: Mapping[str, Json], meter: Meter | None = None) -> Value:
    """Return the value of an expression; raise EvaluationError when it has none, or costs too much."""
    frame = Frame(list(bindings.values()))
    try:
        return _program(source, tuple(bindings))(frame)
    except ExpressionError as error:
        raise EvaluationError(str(error)) from None
    except RecursionError:
        raise EvaluationError("the values are nested too deeply") from None
    finally:
        if meter is not None:
            meter.visits += EVALUATION_VISITS_MAX - frame.visits_left


def holds(source: str, bindings: Mapping[str, Json], meter: Meter | None = None) -> bool:
    """Evaluate an expression to true or false; raise EvaluationError when it gives neither, or costs too much."""
    result = evaluate(source, bindings, meter)
    if result is True or result is False:
        return bool(result)
    raise EvaluationError(f"the result is {type(result).__name__}, true or false is wanted")


def lookup(root: Json, path: str) -> Json | Missing:
    """Return the value at a dotted path through objects, MISSING when there is none."""
    value = root
    for segment in path.split("."):
        if not isinstance(value, dict) or segment not in value:
            return MISSING
        value = value[segment]
    return value


def index_key(value: Json | Missing) -> str | None:
    """Return the text under which a scalar is indexed, None when it cannot be; equal values in CEL share one."""
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
    """Raise ExpressionError unless `path` is a path for match=, as data.user_id."""
    segments = path.split(".")
    if not path or len(path) > PATH_CHARACTERS_MAX or len(segments) > PATH_SEGMENTS_MAX:
        raise ExpressionError(path[:PATH_CHARACTERS_MAX], 1, 1, "a path as data.user_id is wanted")
    for segment in segments:
        if not segment or not segment.isprintable() or set(segment) & set("[]()\"' "):
            raise ExpressionError(path, 1, max(path.find(segment), 0) + 1, "a path as data.user_id is wanted")
    _check_field(path, 0, "", segments[0])


def freeze_match(path: str, event: Mapping[str, Json]) -> Frozen:
    """Freeze match=`path`: the same value at `path` in both events; missing or null on either side never matches."""
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
    """Split an expression on `event` and `async`, and put the run's own event in.

    Raises ExpressionError for a bad expression.
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
    """Return the equality that `node` is; False when it can never hold, True when it is no such equality."""
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
    """Return the parts of the run's own event that `nodes` refer to, and no more."""
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
