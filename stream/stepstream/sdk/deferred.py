"""Imports the expression language and pydantic at first use: together they double the time of `import stepstream`.

Most programs that import the SDK compile no expression at start-up, and many declare no type that pydantic must
convert. The functions here have the signatures of the functions that they load.
"""

import importlib
from collections.abc import Mapping
from typing import Any, Protocol

from stepstream.contract.codec import Json, Raw, dump_json
from stepstream.contract.model_usage import ModelUsage
from stepstream.sdk.errors import NonRetriableError
from stepstream.sdk.inference import Inference, Question


class Converter(Protocol):
    """Converts values of one declared type: a pydantic.TypeAdapter."""

    def validate_json(self, data: bytes, /) -> Any:
        """Parse JSON text as the declared type."""


def _load(module: str) -> Any:
    # A module that is already imported costs one look-up in sys.modules.
    return importlib.import_module(f"stepstream.{module}")


def check(source: str, variables: frozenset[str]) -> None:
    """Raise ExpressionError if `source` is not an expression over these variables."""
    _load("expressions.predicates").check(source, variables)


def check_path(path: str) -> None:
    """Raise ExpressionError if match= cannot compare `path`."""
    _load("expressions.predicates").check_path(path)


def evaluate(source: str, bindings: Mapping[str, Json]) -> Any:
    """Return the value of an expression; raise EvaluationError if it has none."""
    return _load("expressions.predicates").evaluate(source, bindings)


def converter_of(hint: Any) -> Converter:
    """Return the converter of a type; raise what pydantic raises for a type without a schema."""
    found: Converter = _load("sdk.models").converter_of(hint)
    return found


def schema_of(hint: Any) -> dict[str, Any]:
    """Return the JSON schema of a type; raise what pydantic raises for a type without one."""
    found: dict[str, Any] = _load("sdk.models").schema_of(hint)
    return found


def bounded_schema(hint: Any, bytes_max: int, *, only_objects: bool = False) -> Raw:
    """Return the JSON schema of a type; raise ValueError for a type without one, or a large one.

    With `only_objects`, raise it also for a type that is neither a pydantic model nor a dataclass.
    """
    try:
        schema = schema_of(hint)
    except Exception as error:  # noqa: BLE001 - pydantic runs the code of the user's types
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
        raise ValueError(f"it has no JSON schema ({reason})") from None
    if only_objects and schema.get("type") != "object":
        raise ValueError("use a pydantic model or a dataclass, which has fields")
    raw = dump_json(schema, "schema")
    if (size := len(bytes(raw))) > bytes_max:
        raise ValueError(f"its JSON schema has {size:,} bytes; at most {bytes_max:,} are allowed")
    return raw


def dump_typed(value: Any, converter: Converter, what: str) -> Any:
    """Return `value` as plain JSON values by its declared type; raise NotJson if it does not survive the round trip."""
    return _load("sdk.models").dump_typed(value, converter, what)


def load_typed(raw: Raw, converter: Converter) -> Any:
    """Return the value in `raw` as its declared type; raise InvalidInput if it does not fit."""
    return _load("sdk.models").load_typed(raw, converter)


def dump_untyped(value: Any) -> Any:
    """Return a pydantic model or a dataclass as plain JSON values; return anything else as it is."""
    return _load("sdk.models").dump_untyped(value)


async def ask_model(question: Question) -> Inference[Any]:
    """Ask a model; raise NonRetriableError without the extra that this needs."""
    try:
        requests = _load("ai.requests")
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("pydantic_ai"):
            raise
        raise NonRetriableError("ctx.step.ai.infer needs Pydantic AI: pip install 'stepstream[ai]'") from None
    answer: Inference[Any] = await requests.ask(question)
    return answer


def with_cost(usage: ModelUsage) -> ModelUsage:
    """Return what a model used with its cost, if the list of prices is installed and knows the model."""
    try:
        prices = _load("ai.prices")
    except ModuleNotFoundError:
        return usage
    cost = prices.cost_nano_usd(usage.model, usage.input_tokens, usage.output_tokens)
    return ModelUsage(usage.model, usage.input_tokens, usage.output_tokens, cost)


def dump_any(value: Any) -> Any:
    """Return a value that may contain models as plain JSON values; raise NotJson if it has none."""
    return _load("sdk.models").dump_any(value)


def is_model(value: Any) -> bool:
    """Return whether a value is a pydantic model or a dataclass."""
    found: bool = _load("sdk.models").is_model(value)
    return found
