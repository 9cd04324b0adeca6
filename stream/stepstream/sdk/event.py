"""The event as users make it and get it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stepstream.contract.codec import load_json, type_name
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import EventRecord, check_event, event_record
from stepstream.contract.text.durations import moment_ms
from stepstream.sdk.values import to_json


@dataclass(frozen=True, slots=True, init=False)
class Event:
    """Something that happened: it starts functions and wakes runs that wait for it.

    Args:
        name: 1 to 255 characters, for example `shop/order.created`; the prefix `stream/` is the engine's.
        data: A JSON object; a pydantic model or a dataclass is converted to one. None means `{}`.
        id: Makes the event start each function at most once in 24 hours, however often it is sent. Up to 255
            characters.
        ts: When it happened: Unix milliseconds, or a `datetime`; one without a time zone is in UTC. 0 means
            the time of its arrival. If it is in the future, functions start at that time, but waiting runs wake at
            once.
        user: Any JSON value, for example who caused the event.
        v: The version of the data's format, for your own use.

    The encoded event has at most 512 KiB. A wrong type raises `InvalidInput` here, any other mistake when the
    event is sent; the error names the field.

    Example:
        ```python
        Event("shop/order.created", {"id": 7, "total": 12.5}, id="order-7")
        ```
    """

    name: str
    data: Any
    id: str
    ts: int
    user: Any
    v: str

    def __init__(
        self, name: str, data: Any = None, id: str = "", ts: int | datetime = 0, user: Any = None, v: str = ""
    ) -> None:
        for field, text in (("name", name), ("id", id), ("v", v)):
            if not isinstance(text, str):
                raise InvalidInput(f"use a string, not a value of type {type_name(text)}", field)
        values = {
            "name": name,
            "data": {} if data is None else data,
            "id": id,
            "ts": moment_ms(ts),
            "user": user,
            "v": v,
        }
        for field, value in values.items():
            object.__setattr__(self, field, value)

    def __hash__(self) -> int:
        """Return a hash of the fields that are hashable: equal events have equal ones."""
        return hash((self.name, self.id, self.ts, self.v))


def to_record(event: Event, field: str = "event") -> EventRecord:
    """Return an event as a record; raise InvalidInput with the invalid field, at the path `field` of the caller."""
    if not isinstance(event, Event):
        raise InvalidInput(f'use Event("name", {{…}}), not a value of type {type_name(event)}', field)
    data = to_json(event.data)
    if not isinstance(data, dict):
        raise InvalidInput(f"use a JSON object, not a value of type {type_name(data)}", "data")
    record = event_record(event.name, data, event.id, event.ts, to_json(event.user), event.v)
    check_event(record)
    return record


def from_record(record: EventRecord) -> Event:
    """Return a record as functions get it."""
    return Event(record.name, load_json(record.data, own=True), record.id, record.ts, load_json(record.user), record.v)
