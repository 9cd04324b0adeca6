"""Values of users to JSON and back, by the types that their callables declare."""

import functools
import typing
from collections.abc import Callable
from typing import Any

from stepstream.contract.codec import Json, Raw, dump_json, load_json
from stepstream.sdk.deferred import Converter, converter_of, dump_typed, dump_untyped
from stepstream.sdk.errors import NonRetriableError

_PLAIN = {dict, list, str, int, float, bool, type(None), Any, object, None}
# Most values are of these types and need no conversion.
_JSON_TYPES = frozenset({dict, list, tuple, str, int, float, bool, type(None)})


def _is_plain(hint: Any) -> bool:
    if isinstance(hint, typing.TypeVar) or hint in _PLAIN or isinstance(hint, str):
        return True
    origin, parts = typing.get_origin(hint), typing.get_args(hint)
    if origin is dict and parts[0] not in (str, Any):
        return False
    return origin in (dict, list) and all(_is_plain(part) for part in parts)


def _return_hint(function: Callable[..., Any]) -> Any:
    target = function if hasattr(function, "__annotations__") else type(function).__call__
    # Most bodies are lambdas and builtins without a word on types; nothing is kept of a function, which may hold much.
    if "return" not in getattr(target, "__annotations__", {}):
        return None
    try:
        return typing.get_type_hints(target).get("return")
    except Exception:  # noqa: BLE001 - it may be any text
        return None  # An annotation that cannot be resolved says nothing.


def return_adapter(function: Callable[..., Any]) -> Converter | None:
    """Return what converts the results of `function`, or None when they are plain JSON."""
    while isinstance(function, functools.partial):
        function = function.func
    hint = _return_hint(function)
    return None if _is_plain(hint) else converter_of(hint)


def to_json(value: Any) -> Any:
    """Return a pydantic model or a dataclass as plain values; anything else as it is."""
    return value if type(value) in _JSON_TYPES else dump_untyped(value)


def dump_value(value: Any, adapter: Converter | None, what: str) -> Raw:
    """Return `value` as JSON by its declared type; raise NotJson with path and type of what is none."""
    return dump_json(to_json(value) if adapter is None else dump_typed(value, adapter, what), what)


def dump_output(value: Any, handler: Callable[..., Any], bytes_max: int) -> Raw:
    """Return what a function returned, as JSON by its declared type; raise NonRetriableError when it is too large."""
    output = dump_value(value, return_adapter(handler), "output of the function")
    if (size := len(bytes(output))) > bytes_max:
        raise NonRetriableError(f"the output of the function has {size:,} bytes, at most {bytes_max:,} are kept")
    return output


def load_value(raw: Raw, adapter: Converter | None) -> Any:
    """Return the value in `raw`, as the declared type when there is one."""
    if adapter is not None:
        return adapter.validate_json(bytes(raw))
    plain: Json = load_json(raw)
    return plain
