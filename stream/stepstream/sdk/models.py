"""Values of declared types to JSON and back: the one module that uses pydantic, loaded by `sdk.deferred`."""

import dataclasses
import functools
import json
from typing import Any

import pydantic

from stepstream.contract.errors import NotJson

_CONVERTERS_MAX = 4_096


@functools.lru_cache(_CONVERTERS_MAX)
def _converter(hint: Any) -> pydantic.TypeAdapter[Any]:
    return pydantic.TypeAdapter(hint)


def converter_of(hint: Any) -> pydantic.TypeAdapter[Any] | None:
    """Return what converts values of a type, or None for a type that pydantic has no schema for."""
    try:
        return _converter(hint)
    except (TypeError, pydantic.PydanticUserError):
        return None


def dump_untyped(value: Any) -> Any:
    """Return a pydantic model or a dataclass as plain JSON values; return anything else as it is."""
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _converter(type(value)).dump_python(value, mode="json")
    return value


def dump_typed(value: Any, converter: pydantic.TypeAdapter[Any], what: str) -> Any:
    """Return `value` as plain JSON values by its declared type; raise NotJson if it does not survive the round trip.

    A value that cannot be read back must fail here: the body has run, and no later replay could return its result.
    """
    try:
        try:
            dumped = _dump(value, converter)
        except (pydantic.PydanticUserError, ValueError):
            # The value may fit after conversion, as the list that gather() returns where its type promises a tuple.
            value = converter.validate_python(value)
            dumped = _dump(value, converter)
        back = converter.validate_json(json.dumps(dumped))
    except (pydantic.PydanticUserError, TypeError, ValueError) as error:
        raise NotJson(f"the {what} does not fit its declared type: {error}") from None
    # pydantic writes secrets as stars and reads the stars back.
    if _dump(back, converter) != dumped or ("*****" in str(dumped) and back != value):
        raise NotJson(f"the {what} does not come back as it was; return plain values in place of secrets and the like")
    return dumped


def _dump(value: Any, converter: pydantic.TypeAdapter[Any]) -> Any:
    return converter.dump_python(value, mode="json", warnings="error", by_alias=True, round_trip=True)
