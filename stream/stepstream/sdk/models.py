"""Converts values of declared types to JSON and back: the only module that uses pydantic, loaded by `sdk.deferred`."""

import dataclasses
import functools
import json
from typing import Any

import pydantic

from stepstream.contract.codec import Raw
from stepstream.contract.errors import InvalidInput, NotJson

_CONVERTERS_MAX = 4_096


@functools.lru_cache(_CONVERTERS_MAX)
def converter_of(hint: Any) -> pydantic.TypeAdapter[Any]:
    """Return the converter of a type; raise TypeError or PydanticUserError if pydantic has no schema for it."""
    return pydantic.TypeAdapter(hint)


@functools.lru_cache(_CONVERTERS_MAX)
def schema_of(hint: Any) -> dict[str, Any]:
    """Return the JSON schema of a type; raise TypeError or PydanticUserError if pydantic has none for it."""
    return converter_of(hint).json_schema()


def is_model(value: Any) -> bool:
    """Return whether a value is a pydantic model or a dataclass."""
    return isinstance(value, pydantic.BaseModel) or (dataclasses.is_dataclass(value) and not isinstance(value, type))


def dump_untyped(value: Any) -> Any:
    """Return a pydantic model or a dataclass as plain JSON values; return anything else as it is."""
    if isinstance(value, pydantic.BaseModel):
        return value.model_dump(mode="json")
    if is_model(value):
        kind: Any = type(value)
        return converter_of(kind).dump_python(value, mode="json")
    return value


def dump_any(value: Any) -> Any:
    """Return a value that may contain models as plain JSON values; raise NotJson if it has none."""
    try:
        return converter_of(Any).dump_python(value, mode="json")
    except (TypeError, ValueError) as error:
        raise NotJson(f"a {type(value).__name__} has no JSON: {error}") from None


def load_typed(raw: Raw, converter: pydantic.TypeAdapter[Any]) -> Any:
    """Return the value in `raw` as its declared type; raise InvalidInput if it does not fit."""
    try:
        return converter.validate_json(bytes(raw))
    except pydantic.ValidationError as error:
        raise InvalidInput(str(error)) from None


def dump_typed(value: Any, converter: pydantic.TypeAdapter[Any], what: str) -> Any:
    """Return `value` as plain JSON values by its declared type; raise NotJson if it does not survive the round trip.

    A value that cannot be read back must fail here: the body has run, and no later replay could return its result.
    """
    try:
        try:
            dumped = _dump(value, converter)
        except (pydantic.PydanticUserError, ValueError):
            # The value may fit after conversion: gather() returns a list where its type promises a tuple.
            value = converter.validate_python(value)
            dumped = _dump(value, converter)
        back = converter.validate_json(json.dumps(dumped))
        lost = _lost_field(_dump(value, converter, as_any=True), dumped)
    except (pydantic.PydanticUserError, TypeError, ValueError) as error:
        raise NotJson(f"the {what} does not fit its declared type: {error}") from None
    if lost:
        raise NotJson(
            f"the {what} has a field that its declared type lacks, and which would be lost: {lost}; "
            "declare the subclass, or a union of the possible types"
        )
    # pydantic writes secrets as stars and reads the stars back.
    if _dump(back, converter) != dumped or ("*****" in str(dumped) and back != value):
        raise NotJson(f"the {what} does not come back equal from JSON; return plain values in place of secrets")
    return dumped


def _dump(value: Any, converter: pydantic.TypeAdapter[Any], *, as_any: bool = False) -> Any:
    """Return plain values by the declared type; `as_any` includes the fields of subclasses."""
    return converter.dump_python(
        value, mode="json", warnings="error", by_alias=True, round_trip=True, serialize_as_any=as_any
    )


def _lost_field(full: Any, dumped: Any) -> str:
    """Return the path of the first field of `full` that is not in `dumped`, "" when there is none."""
    pending = [(full, dumped, "$")]
    while pending:
        one, two, path = pending.pop()
        if isinstance(one, dict) and isinstance(two, dict):
            if missing := [key for key in one if key not in two]:
                return f"{path}.{missing[0]}"
            pending += [(one[key], two[key], f"{path}.{key}") for key in one]
        elif isinstance(one, list) and isinstance(two, list):
            pending += [(a, b, f"{path}[{i}]") for i, (a, b) in enumerate(zip(one, two, strict=False))]
    return ""
