"""Values of users are decoded to the type that their callable declares, or rejected when they are encoded."""

import gc
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import Enum
from typing import Any
from uuid import UUID

import pytest
from pydantic import AliasGenerator, BaseModel, ConfigDict, Field, Json, SecretStr, computed_field
from pydantic.alias_generators import to_camel

from stepstream import NonRetriableError
from stepstream.contract.errors import NotJson
from stepstream.sdk.values import PLAIN_JSON, dump_value, load_value, return_type


class Aliased(BaseModel):
    """A model with a field that has another name in JSON."""

    total: int = Field(alias="Total")


class Camel(BaseModel):
    """A model whose fields all have other names in JSON."""

    model_config = ConfigDict(alias_generator=AliasGenerator(to_camel))
    order_total: int


class Strict(BaseModel):
    """A strict model with types that JSON does not have."""

    model_config = ConfigDict(strict=True)
    at: datetime
    id: UUID


class Computed(BaseModel):
    """A model with a computed field, which it does not accept as input."""

    model_config = ConfigDict(extra="forbid")
    total: int

    @computed_field  # type: ignore[prop-decorator]  # The form that pydantic documents.
    @property
    def double(self) -> int:
        """Twice the total."""
        return self.total * 2


class Nested(BaseModel):
    """A model with a field that holds JSON as text."""

    inner: Json[dict[str, int]]


class Colour(Enum):
    """An enumeration."""

    RED = "red"


@dataclass
class Parcel:
    """A dataclass with a date."""

    due: date


NOW = datetime(2026, 1, 1, tzinfo=UTC)
VALUES: list[tuple[Any, Any]] = [
    (Aliased, Aliased(Total=3)),
    (Camel, Camel.model_validate({"orderTotal": 3})),
    (Strict, Strict(at=NOW, id=UUID(int=5))),
    (Computed, Computed(total=3)),
    (Nested, Nested.model_validate({"inner": '{"a": 1}'})),
    (Colour, Colour.RED),
    (Parcel, Parcel(date(2026, 1, 1))),
    (list[Parcel], [Parcel(date(2026, 1, 1))]),
    (tuple[int, str], (1, "a")),
    (dict[int, str], {1: "a"}),
    (set[int], {1, 2}),
    (Aliased | None, None),
    (Parcel, Parcel(date(2026, 1, 2))),
]


def returning(hint: Any) -> Callable[[], Any]:
    """Return a callable that declares a type."""

    def body() -> Any:
        raise NonRetriableError

    body.__annotations__["return"] = hint
    return body


@pytest.mark.parametrize(("hint", "value"), VALUES, ids=str)
def test_a_typed_value_keeps_its_value_and_type(hint: Any, value: Any) -> None:
    """A value that is encoded and decoded is equal to the original, and has the declared type."""
    declared = return_type(returning(hint))
    decoded = load_value(dump_value(value, declared, "value"), declared)
    assert decoded == value
    assert type(decoded) is type(value)


class Excluded(BaseModel):
    """A model with a required field that is never written."""

    hidden: str = Field(exclude=True)


class Guarded(BaseModel):
    """A model with a secret, which is written as stars."""

    key: SecretStr


@pytest.mark.parametrize(
    ("hint", "value"),
    [(Excluded, Excluded(hidden="x")), (Guarded, Guarded(key=SecretStr("x"))), (int, "x"), (Parcel, 5)],
    ids=["excluded", "secret", "plain", "wrong"],
)
def test_a_value_that_cannot_be_decoded_is_rejected(hint: Any, value: Any) -> None:
    """The step that returns such a value fails, and not the run when it is replayed later."""
    declared = return_type(returning(hint))
    if declared is PLAIN_JSON:
        assert load_value(dump_value(value, declared, "value"), declared) == value
        return
    with pytest.raises(NotJson, match="value"):
        dump_value(value, declared, "value")


@pytest.mark.parametrize("hint", ["dt.Missing", "the user", "1/0"])
def test_plain_json_needs_no_usable_annotation(hint: str) -> None:
    """An annotation that cannot be resolved is not an error as long as the results are plain JSON."""
    declared = return_type(returning(hint))
    assert "return annotation" in declared.unusable
    assert load_value(dump_value({"a": [1]}, declared, "value"), declared) == {"a": [1]}


def test_a_body_is_released_after_it_has_run() -> None:
    """A body and the objects that it refers to can be garbage-collected."""

    class Large:
        pass

    large = Large()
    reference = weakref.ref(large)

    def body(held: Any = large) -> Parcel:
        raise NonRetriableError(str(held))

    return_type(body)
    del body, large
    gc.collect()
    assert reference() is None
