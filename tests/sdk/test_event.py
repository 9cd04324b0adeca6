"""The event as users make it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest

from stepstream import Event
from stepstream.contract.errors import InvalidInput
from stepstream.sdk.event import to_record


def test_equal_events_have_equal_hashes() -> None:
    """An event can be in a set, although its data cannot be hashed."""
    events = {Event("a", {"n": [1]}, id="x"), Event("a", {"n": [1]}, id="x"), Event("a", {"n": [2]}, id="x")}
    assert len(events) == 2


@pytest.mark.parametrize(
    "fields", [{"name": 5}, {"name": None}, {"name": "a", "id": 5}, {"name": "a", "v": 2}], ids=str
)
def test_a_field_of_a_wrong_type_is_refused(fields: dict[str, Any]) -> None:
    """Name, id and version are text; anything else is refused where the event is made, with the field."""
    with pytest.raises(InvalidInput, match="use a string, not a value of type") as refused:
        Event(**fields)
    assert refused.value.field in fields


def test_a_datetime_without_a_zone_is_in_utc() -> None:
    """The local time zone of the process does not matter."""
    assert Event("a", ts=datetime(2026, 1, 1)).ts == Event("a", ts=datetime(2026, 1, 1, tzinfo=UTC)).ts  # noqa: DTZ001


@dataclass
class Order:
    """Data of an event."""

    total: int


@pytest.mark.parametrize("field", ["data", "user"])
def test_a_dataclass_becomes_json(field: str) -> None:
    """A dataclass or a model as `data` or `user` is converted to plain values."""
    record = to_record(Event("a", **{field: Order(3)}))  # type: ignore[arg-type]
    assert bytes(getattr(record, field)) == b'{"total":3}'


@pytest.mark.parametrize("data", [[1], 5, "text"])
def test_data_that_is_not_an_object_is_refused(data: object) -> None:
    """Data is a JSON object, and the error says what it was instead."""
    with pytest.raises(InvalidInput, match=rf"data: use a JSON object, not a value of type {type(data).__name__}"):
        to_record(Event("a", data))
