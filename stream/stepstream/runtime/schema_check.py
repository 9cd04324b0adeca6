"""Checks values that people enter against the JSON schema of a model."""

from typing import Any

import jsonschema_rs

from stepstream.contract.codec import Json
from stepstream.contract.errors import InvalidInput

# A pattern of a schema must not take exponential time over the values of a client, nor much memory.
_PATTERNS = jsonschema_rs.RegexOptions(size_limit=10_000_000)


def check_schema(schema: Any, values: Json, field: str = "values") -> None:
    """Raise InvalidInput for the first value that does not fit: its field is the path, such as `values.items.0`."""
    try:
        validator = jsonschema_rs.validator_for(schema, retriever=_refuse, pattern_options=_PATTERNS)
        error = next(validator.iter_errors(values), None)
    except (jsonschema_rs.ValidationError, ValueError) as problem:
        raise InvalidInput(f"the form cannot be checked: {problem}", field) from None
    if error is None:
        return
    path = [field, *map(str, error.instance_path)]
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required):
        # The field is missing, and not what lacks it.
        raise InvalidInput("a value is required", ".".join([*path, error.kind.property]))
    raise InvalidInput(error.message, ".".join(path))


def _refuse(uri: str) -> Any:
    raise ValueError(f"the form refers to {uri}, which is not read")
