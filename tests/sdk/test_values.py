"""Values of users go to JSON and come back as the type that their callable declares, or are refused at once."""

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
    """A field with another name in JSON."""

    total: int = Field(alias="Total")


class Camel(BaseModel):
    """All fields with other names in JSON."""

    model_config = ConfigDict(alias_generator=AliasGenerator(to_camel))
    order_total: int


class Strict(BaseModel):
    """Types that JSON does not have, taken strictly."""

    model_config = ConfigDict(strict=True)
    at: datetime
    id: UUID


class Computed(BaseModel):
    """A field that is computed and must not come back."""

    model_config = ConfigDict(extra="forbid")
    total: int

    @computed_field  # type: ignore[prop-decorator]  # As pydantic's documents say.
    @property
    def double(self) -> int:
        """Twice the total."""
        return self.total * 2


class Nested(BaseModel):
    """A field that is JSON in text."""

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
def test_a_typed_value_comes_back(hint: Any, value: Any) -> None:
    """What was declared is what comes back, by value and by type."""
    declared = return_type(returning(hint))
    back = load_value(dump_value(value, declared, "value"), declared)
    assert back == value
    assert type(back) is type(value)


class Excluded(BaseModel):
    """A field that is never written and must be there."""

    hidden: str = Field(exclude=True)


class Guarded(BaseModel):
    """A secret, which is written as stars."""

    key: SecretStr


@pytest.mark.parametrize(
    ("hint", "value"),
    [(Excluded, Excluded(hidden="x")), (Guarded, Guarded(key=SecretStr("x"))), (int, "x"), (Parcel, 5)],
    ids=["excluded", "secret", "plain", "wrong"],
)
def test_what_could_not_come_back_is_refused(hint: Any, value: Any) -> None:
    """A value that cannot be read back is an error of the step, not one of the run that finds it later."""
    declared = return_type(returning(hint))
    if declared is PLAIN_JSON:
        assert load_value(dump_value(value, declared, "value"), declared) == value
        return
    with pytest.raises(NotJson, match="value"):
        dump_value(value, declared, "value")


@pytest.mark.parametrize("hint", ["dt.Missing", "the user", "1/0"])
def test_plain_json_needs_no_usable_annotation(hint: str) -> None:
    """An annotation that cannot be resolved is no error as long as the results are plain JSON."""
    declared = return_type(returning(hint))
    assert "return annotation" in declared.unusable
    assert load_value(dump_value({"a": [1]}, declared, "value"), declared) == {"a": [1]}


def test_nothing_is_kept_of_a_body() -> None:
    """A body and what it holds are let go once it has run."""

    class Large:
        pass

    large = Large()
    gone = weakref.ref(large)

    def body(held: Any = large) -> Parcel:
        raise NonRetriableError(str(held))

    return_type(body)
    del body, large
    gc.collect()
    assert gone() is None
