"""Converts users' values to JSON and back, by the return types that their callables declare."""

import functools
import inspect
import types
import typing
import weakref
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from stepstream.contract.codec import Json, Raw, dump_json, load_json, type_name
from stepstream.contract.errors import NotJson
from stepstream.sdk.deferred import Converter, converter_of, dump_typed, dump_untyped, is_model, load_typed
from stepstream.sdk.errors import DefinitionError, NonRetriableError

_PLAIN = {dict, list, str, int, float, bool, type(None), Any, object, None}
# The types that parsing JSON returns, and tuples, which become lists.
_JSON_TYPES = frozenset({dict, list, tuple, str, int, float, bool, type(None)})
_DECLARE = (
    "declare its type as the return type of a function (not a lambda) and import it at run time (not only under "
    "TYPE_CHECKING)"
)


@dataclass(frozen=True, slots=True)
class ReturnType:
    """The declared return type of a callable.

    `converter` converts its values. It is None for plain JSON, and for a declared type that cannot be used; `unusable`
    then says why, and only plain JSON values are accepted in its place.
    """

    converter: Converter | None = None
    unusable: str = ""


PLAIN_JSON = ReturnType()
# Resolving an annotation takes longer than everything else that the SDK does for a step. The references are weak,
# because a body may be a closure over large values. Other return types are not cached, because a class may refer to
# such a body.
_returning_plain_json: weakref.WeakSet[types.FunctionType] = weakref.WeakSet()


def return_type(function: Callable[..., Any]) -> ReturnType:
    """Return the type of the results of `function`: its return annotation, or the class itself if it is a class."""
    while isinstance(function, functools.partial):
        function = function.func
    if isinstance(function, types.FunctionType) and function in _returning_plain_json:
        return PLAIN_JSON
    try:
        hint = _return_hint(function)
        if not _is_plain(hint):
            return ReturnType(converter_of(hint))
        if isinstance(function, types.FunctionType):
            _returning_plain_json.add(function)
        return PLAIN_JSON
    except Exception as error:  # noqa: BLE001 - an annotation may hold any expression
        return _unusable("return annotation", error)


def parameter_type(function: Callable[..., Any], name: str) -> ReturnType:
    """Return the type of the values of a parameter of `function`, as `return_type` does that of its results."""
    while isinstance(function, functools.partial):
        function = function.func
    try:
        # Of a class, the parameters are those of its constructor.
        hint = annotation_of(getattr(function, "__init__") if isinstance(function, type) else function, name)  # noqa: B009
        return PLAIN_JSON if _is_plain(hint) else ReturnType(converter_of(hint))
    except Exception as error:  # noqa: BLE001 - as above
        return _unusable("annotation", error)


def _unusable(annotation: str, error: Exception) -> ReturnType:
    if isinstance(error, NameError):
        return ReturnType(None, f"its {annotation} cannot be resolved at run time ({error})")
    reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    return ReturnType(None, f"its {annotation} cannot be used ({reason})")


def _return_hint(function: Callable[..., Any]) -> Any:
    """Return the declared type with its names resolved, None when nothing is declared; raise what resolving raises."""
    if isinstance(function, type) or isinstance(typing.get_origin(function), type):
        return function
    hint = annotation_of(function, "return")
    if typing.get_origin(hint) in (Awaitable, Coroutine):
        hint = typing.get_args(hint)[-1]
    if hint is typing.Self:
        owner = getattr(function, "__self__", None)
        return owner if isinstance(owner, type) else type(owner)
    return hint


def annotation_of(function: Callable[..., Any], name: str) -> Any:
    """Return the annotation of a parameter, or of "return", with its names resolved, None when there is none.

    Raises what resolving raises, such as NameError for a type that is imported only for type checkers.
    """
    target: Any = function if inspect.isroutine(function) else type(function).__call__
    # Most bodies are lambdas and builtins, which declare nothing.
    annotations = getattr(target, "__annotations__", {})
    if name not in annotations:
        return None
    code = inspect.unwrap(target)
    # Only this annotation is resolved, because another one may be unresolvable.
    alone = types.SimpleNamespace(__annotations__={name: annotations[name]})
    names = getattr(code, "__globals__", {}), _closure(code)
    return typing.get_type_hints(alone, *names, include_extras=True)[name]


def _closure(code: Any) -> dict[str, Any]:
    """Return the variables of enclosing functions that `code` uses; a local class may be among them."""
    found: dict[str, Any] = {}
    names = getattr(getattr(code, "__code__", None), "co_freevars", ())
    for name, cell in zip(names, getattr(code, "__closure__", None) or (), strict=False):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            continue  # The variable has no value yet.
    return found


def _is_plain(hint: Any) -> bool:
    if isinstance(hint, typing.TypeVar) or hint in _PLAIN:
        return True
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is dict and parts[0] not in (str, Any):
        return False
    return origin in (dict, list) and all(_is_plain(part) for part in parts)


def to_json(value: Any) -> Any:
    """Return a pydantic model or a dataclass as plain values; anything else unchanged."""
    return value if type(value) in _JSON_TYPES else dump_untyped(value)


def dump_value(value: Any, declared: ReturnType, what: str) -> Raw:
    """Return a result as JSON from which `load_value` makes an equal value; raise NotJson when there is none."""
    if declared.converter is not None:
        return dump_json(dump_typed(value, declared.converter, what), what)
    if declared.unusable and not _is_exact(value):
        raise NotJson(
            f"the {what} is a {type_name(value)}, and {declared.unusable}; {_DECLARE}, or return plain JSON values"
        )
    if type(value) not in _JSON_TYPES and (isinstance(value, Raw) or is_model(value)):
        if isinstance(value, Raw):
            return value  # What an app of another language returned is JSON.
        raise NotJson(
            f"the {what} is a {type_name(value)}, and its callable declares no such type; "
            f"{_DECLARE}, or return plain JSON values"
        )
    try:
        return dump_json(value, what)
    except NotJson as error:
        raise NotJson(f"{error.reason}, or {_DECLARE}", error.field) from None


def _is_exact(value: Any) -> bool:
    """Return whether a value consists only of JSON types."""
    pending = [value]
    while pending:
        part = pending.pop()
        if type(part) not in _JSON_TYPES:
            return False
        if isinstance(part, dict | list | tuple):
            pending.extend(part.values() if isinstance(part, dict) else part)
    return True


def dump_output(value: Any, handler: Callable[..., Any], bytes_max: int) -> Raw:
    """Return the output of a function as JSON; raise NotJson, or NonRetriableError when it is too large.

    A handler need not declare that it returns a model or a dataclass: outputs are read as JSON, and `invoke` converts
    them to the declared type, if there is one.
    """
    if inspect.iscoroutine(value):
        value.close()
        raise DefinitionError(
            "the function returned a coroutine: a decorator hides that its handler is async; "
            "use functools.wraps in the decorator"
        )
    declared = return_type(handler)
    given = to_json(value) if declared is PLAIN_JSON else value
    output = dump_value(given, declared, "output of the function")
    if (size := len(bytes(output))) > bytes_max:
        raise NonRetriableError(
            f"the output of the function has {size:,} bytes, at most {bytes_max:,} are allowed; "
            "store it elsewhere and return a reference"
        )
    return output


def load_value(raw: Raw, declared: ReturnType) -> Any:
    """Return the value in `raw` as its declared type; raise InvalidInput when it does not fit."""
    if declared.converter is not None:
        return load_typed(raw, declared.converter)
    plain: Json = load_json(raw)
    return plain
