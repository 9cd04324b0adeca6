"""Values of users to JSON and back, by the types that their callables declare."""

import dataclasses
import functools
import typing
from collections.abc import Callable
from typing import Any

import pydantic

from stepstream.contract.codec import Json, Raw, dump_json, load_json
from stepstream.contract.errors import NotJson

_PLAIN = {dict, list, str, int, float, bool, type(None), Any, object, None}
_ADAPTERS_MAX = 4_096


def _is_plain(hint: Any) -> bool:
    if isinstance(hint, typing.TypeVar) or hint in _PLAIN or isinstance(hint, str):
        return True
    origin = typing.get_origin(hint)
    return origin in (dict, list) and all(_is_plain(part) for part in typing.get_args(hint))


@functools.lru_cache(_ADAPTERS_MAX)
def _adapter_of_type(hint: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(hint)


@functools.lru_cache(_ADAPTERS_MAX)
def _return_adapter(function: Callable[..., Any]) -> pydantic.TypeAdapter[Any] | None:
    target = function if hasattr(function, "__annotations__") else type(function).__call__
    try:
        hint = typing.get_type_hints(target).get("return")
    except (NameError, TypeError):
        return None  # An annotation that cannot be resolved says nothing.
    try:
        return None if _is_plain(hint) else _adapter_of_type(hint)
    except (TypeError, pydantic.PydanticUserError):
        return None  # A type that pydantic has no schema for is judged by its values.


def return_adapter(function: Callable[..., Any]) -> pydantic.TypeAdapter[Any] | None:
    """Return what converts the results of `function`, or None when they are plain JSON."""
    while isinstance(function, functools.partial):
        function = function.func
    try:
        return _return_adapter(function)
    except TypeError:
        return None  # An unhashable callable is used as it is.


def to_json(value: Any) -> Any:
    """Return a pydantic model or a dataclass as plain values; anything else as it is."""
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _adapter_of_type(type(value)).dump_python(value, mode="json")
    return value


def dump_value(value: Any, adapter: pydantic.TypeAdapter[Any] | None, what: str) -> Raw:
    """Return `value` as JSON by its declared type; raise NotJson with path and type of what is none."""
    return dump_json(to_json(value) if adapter is None else _dump_typed(value, adapter, what), what)


def _dump_typed(value: Any, adapter: pydantic.TypeAdapter[Any], what: str) -> Any:
    try:
        return adapter.dump_python(value, mode="json", warnings="error")
    except (pydantic.PydanticUserError, ValueError):
        pass
    try:
        # It may fit after all, as the list does that gather() gives where its types promise a tuple.
        return adapter.dump_python(adapter.validate_python(value), mode="json", warnings="error")
    except (pydantic.PydanticUserError, ValueError) as error:
        raise NotJson(f"the {what} does not fit its declared type: {error}") from None


def load_value(raw: Raw, adapter: pydantic.TypeAdapter[Any] | None) -> Any:
    """Return the value in `raw`, as the declared type when there is one."""
    plain: Json = load_json(raw)
    return plain if adapter is None else adapter.validate_python(plain)
