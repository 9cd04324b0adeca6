"""How a record of another topic becomes an event: mapped, skipped, or refused with the reason."""

import json
from typing import Any

import pytest

from stepstream import App
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import EventRecord
from stepstream.contract.limits import DEFAULT_LIMITS
from stepstream.sdk.errors import DefinitionError
from stepstream.sdk.source import Source, SourceRecord

AT = 1_700_000_000_000
CE = {"ce_specversion": b"1.0", "ce_id": b"7", "ce_source": b"/shop", "ce_type": b"shop.paid"}


def event_of(
    source: Source, value: Any, headers: dict[str, bytes] | None = None, key: bytes = b"k"
) -> EventRecord | None:
    """Return the event of a record at orders-2-5."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return source.event_of(raw, headers or {}, partition=2, offset=5, key=key, timestamp=AT, limits=DEFAULT_LIMITS)


def test_the_position_of_a_record_is_its_identity() -> None:
    """Without a mapping the data is the value, the time that of the record, and the id its position in the log."""
    event = event_of(Source("orders", "shop/order"), {"n": 1})
    assert event == EventRecord("shop/order", event.data if event else b"", "orders-2-5", AT)  # type: ignore[arg-type]
    assert event
    assert json.loads(bytes(event.data)) == {"n": 1}


def test_expressions_map_the_parts_of_a_record() -> None:
    """id, data and ts are CEL on the value, key, headers and position; if_ skips records."""
    source = Source(
        "orders",
        "shop/order",
        id="'order-' + string(value.id)",
        data="{'id': value.id, 'by': key, 'kind': headers.kind, 'from': topic}",
        ts="value.at",
        if_="value.id > 3",
    )
    event = event_of(source, {"id": 4, "at": "2024-01-02T03:04:05Z"}, {"kind": b"new"})
    assert event
    assert (event.id, event.ts) == ("order-4", 1_704_164_645_000)
    assert json.loads(bytes(event.data)) == {"id": 4, "by": "k", "kind": "new", "from": "orders"}
    assert event_of(source, {"id": 3}) is None


def test_callables_map_the_record() -> None:
    """A mapping may be a function of the record; its error is the reason for which the record is refused."""

    def name_of(record: SourceRecord) -> str:
        return f"{record.key}-{record.offset}"

    source = Source("orders", "shop/order", id=name_of, data=lambda record: {"x": record.value["x"]})  # type: ignore[call-overload,index]
    event = event_of(source, {"x": [1], "y": 2})
    assert event
    assert (event.id, json.loads(bytes(event.data))) == ("k-5", {"x": [1]})
    with pytest.raises(InvalidInput, match="data: KeyError: 'x'"):
        event_of(source, {})


@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_cloudevents_in_both_modes(mode: str) -> None:
    """Type, source with id, and time are those of the CloudEvent; expressions see its attributes."""
    when = "2024-01-02T03:04:05Z"
    if mode == "binary":
        headers = {**CE, "ce_time": when.encode(), "ce_tenant": b"blue", "content-type": b"application/json"}
        value: Any = {"n": 1}
    else:
        headers = {"content-type": b"application/cloudevents+json"}
        value = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "shop.paid", "time": when}
        value |= {"tenant": "blue", "datacontenttype": "application/json", "data": {"n": 1}}
    event = event_of(Source("orders", format="cloudevents"), value, headers)
    assert event
    assert (event.name, event.id, event.ts) == ("shop.paid", "/shop#7", 1_704_164_645_000)
    assert json.loads(bytes(event.data)) == {"n": 1}
    mapped = event_of(Source("orders", "paid", data="{'t': value.tenant}", format="cloudevents"), value, headers)
    assert mapped
    assert (mapped.name, json.loads(bytes(mapped.data))) == ("paid", {"t": "blue"})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"\xff", "not valid JSON"),
        (b'{"a":', "not valid JSON"),
        (b"[1]", "data: the value is a list; map it to an object with data="),
        (b'{"a":' + b"[" * 200 + b"]" * 200 + b"}", "nested deeper"),
        (b'{"a":"' + b"x" * 600_000 + b'"}', "bytes"),
    ],
)
def test_a_value_that_cannot_be_an_event_is_refused(value: bytes, reason: str) -> None:
    """Bytes that are not JSON, a value that is not an object, and one that is too deep or too large."""
    with pytest.raises(InvalidInput, match=reason):
        event_of(Source("orders", "shop/order"), value)


@pytest.mark.parametrize("value", [{}, {"specversion": "1.0", "id": "7"}, b"\x00"])
def test_a_record_that_is_not_a_cloudevent_is_refused(value: Any) -> None:
    """A record without the attributes that each CloudEvent has is an error with the format, not one of the library."""
    with pytest.raises(InvalidInput, match="not a CloudEvent"):
        event_of(Source("orders", format="cloudevents"), value)


def test_a_wrong_mapping_is_refused_at_the_record() -> None:
    """An expression that fails, and an id that is out of bounds, name the field."""
    with pytest.raises(InvalidInput, match="id: "):
        event_of(Source("orders", "shop/order", id="value.nothing"), {})
    with pytest.raises(InvalidInput, match="id: use at most"):
        event_of(Source("orders", "shop/order", id="value.long"), {"long": "x" * 10_000})


@pytest.mark.parametrize("value", [None, "", True, 1.0, [1], {"a": 1}])
@pytest.mark.parametrize("by", ["value.id", lambda record: record.value["id"]])
def test_a_result_that_cannot_be_an_id_is_refused(value: Any, by: Any) -> None:
    """Null would be one id for all records without one, so that only the first of a day would start a run."""
    with pytest.raises(InvalidInput, match=r"id: the result is .* must be a non-empty string or an integer"):
        event_of(Source("orders", "shop/order", id=by), {"id": value})


def test_an_integer_is_the_same_id_as_its_text() -> None:
    """17 and "17" name one event."""
    ids = [event_of(Source("orders", "shop/order", id="value.id"), {"id": value}) for value in (17, "17")]
    assert [event and event.id for event in ids] == ["17", "17"]


@pytest.mark.parametrize("value", [None, 0, 5, "", "yes", []])
def test_a_condition_is_true_or_false(value: Any) -> None:
    """Anything else is a mistake in the mapping, and skips no record silently."""
    with pytest.raises(InvalidInput, match=r"if_: the result is of type .*; it must be true or false"):
        event_of(Source("orders", "shop/order", if_="value.x"), {"x": value})
    assert event_of(Source("orders", "shop/order", if_="value.x"), {"x": True})
    assert event_of(Source("orders", "shop/order", if_=lambda _: False), {"x": True}) is None


@pytest.mark.parametrize("mode", ["structured", "binary"])
def test_a_cloudevent_without_a_time_has_that_of_its_record(mode: str) -> None:
    """The library generates a missing time or id; these are not used, or each reading would be another event."""
    given: dict[str, Any] = {"specversion": "1.0", "id": "7", "source": "/shop", "type": "shop.paid"}

    def found(source: Source, attributes: dict[str, Any]) -> EventRecord | None:
        if mode == "binary":
            return event_of(source, {"n": 1}, {f"ce_{name}": text.encode() for name, text in attributes.items()})
        return event_of(source, attributes | {"data": {"n": 1}})

    event = found(Source("orders", format="cloudevents"), given)
    assert event
    assert (event.id, event.ts) == ("/shop#7", AT)
    with pytest.raises(InvalidInput, match="time"):
        found(Source("orders", format="cloudevents", data="{'at': value.time}"), given)
    del given["id"]
    with pytest.raises(InvalidInput, match="not a CloudEvent: the attribute id is missing"):
        found(Source("orders", format="cloudevents"), given)


def test_sources_are_checked_where_they_are_defined() -> None:
    """A missing name, a name of the engine's own, a wrong expression and an unknown format are refused."""
    app = App("shop")
    with pytest.raises(DefinitionError, match="give its events a name"):
        app.source("orders")
    with pytest.raises(DefinitionError, match="stream/"):
        app.source("orders", name="stream/x")
    with pytest.raises(DefinitionError, match="'event' is unknown here"):
        app.source("orders", name="order", id="event.id")
    with pytest.raises(DefinitionError, match="not one of json, cloudevents"):
        app.source("orders", name="order", format="avro")  # type: ignore[arg-type]
    assert app.sources == []
    assert app.source("orders", name="order") in app.sources
