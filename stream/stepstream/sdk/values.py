"""Values of users to JSON and back, by the types that their callables declare."""

import dataclasses
import functools
import json
import typing
from collections.abc import Callable
from typing import Any

import pydantic

from stepstream.contract.codec import Json, Raw, dump_json, load_json
from stepstream.contract.errors import NotJson
from stepstream.sdk.errors import NonRetriableError

_PLAIN = {dict, list, str, int, float, bool, type(None), Any, object, None}
_ADAPTERS_MAX = 4_096


def _is_plain(hint: Any) -> bool:
    if isinstance(hint, typing.TypeVar) or hint in _PLAIN or isinstance(hint, str):
        return True
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is dict and parts[0] not in (str, Any):
        return False
    return origin in (dict, list) and all(_is_plain(part) for part in parts)


@functools.lru_cache(_ADAPTERS_MAX)
def _adapter_of_type(hint: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(hint)


def _return_hint(function: Callable[..., Any]) -> Any:
    target = function if hasattr(function, "__annotations__") else type(function).__call__
    # Most bodies are lambdas and builtins without a word on types; nothing is kept of a function, which may hold much.
    if "return" not in getattr(target, "__annotations__", {}):
        return None
    try:
        return typing.get_type_hints(target).get("return")
    except Exception:  # noqa: BLE001 - it may be any text
        return None  # An annotation that cannot be resolved says nothing.


def return_adapter(function: Callable[..., Any]) -> pydantic.TypeAdapter[Any] | None:
    """Return what converts the results of `function`, or None when they are plain JSON."""
    while isinstance(function, functools.partial):
        function = function.func
    hint = _return_hint(function)
    try:
        return None if _is_plain(hint) else _adapter_of_type(hint)
    except (TypeError, pydantic.PydanticUserError):
        return None  # A type that pydantic has no schema for is judged by its values.


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


def dump_output(value: Any, handler: Callable[..., Any], bytes_max: int) -> Raw:
    """Return what a function returned, as JSON by its declared type; raise NonRetriableError when it is too large."""
    output = dump_value(value, return_adapter(handler), "output of the function")
    if (size := len(bytes(output))) > bytes_max:
        raise NonRetriableError(f"the output of the function has {size:,} bytes, at most {bytes_max:,} are kept")
    return output


def _dump_typed(value: Any, adapter: pydantic.TypeAdapter[Any], what: str) -> Any:
    """Return what can be read back as the declared type: else the body has run, and nobody could have its value."""
    try:
        try:
            dumped = _dump_json(value, adapter)
        except (pydantic.PydanticUserError, ValueError):
            # It may fit after all, as the list does that gather() gives where its types promise a tuple.
            value = adapter.validate_python(value)
            dumped = _dump_json(value, adapter)
        back = adapter.validate_json(json.dumps(dumped))
    except (pydantic.PydanticUserError, TypeError, ValueError) as error:
        raise NotJson(f"the {what} does not fit its declared type: {error}") from None
    # Secrets are written as stars, and come back as stars.
    if _dump_json(back, adapter) != dumped or ("*****" in str(dumped) and back != value):
        raise NotJson(f"the {what} does not come back as it was; return plain values in place of secrets and the like")
    return dumped


def _dump_json(value: Any, adapter: pydantic.TypeAdapter[Any]) -> Any:
    return adapter.dump_python(value, mode="json", warnings="error", by_alias=True, round_trip=True)


def load_value(raw: Raw, adapter: pydantic.TypeAdapter[Any] | None) -> Any:
    """Return the value in `raw`, as the declared type when there is one."""
    if adapter is not None:
        return adapter.validate_json(bytes(raw))
    plain: Json = load_json(raw)
    return plain
