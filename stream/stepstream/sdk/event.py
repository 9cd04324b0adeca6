"""The event as users make it and get it."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from stepstream.contract.codec import load_json
from stepstream.contract.durations import moment_ms
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import EventRecord, check_event, event_record
from stepstream.sdk.values import to_json


@dataclass(frozen=True, slots=True, init=False)
class Event:
    """Something that happened. `data` is a JSON object (or a pydantic model or dataclass that becomes one).

    `id`, when given, makes the event start each function at most once in 24 h. `ts` is when it happened, in Unix
    milliseconds (a datetime is taken, too); a time in the future starts functions then. `user` is free, `v` a version.
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


def to_record(event: Event) -> EventRecord:
    """Return an event as it travels; raise InvalidInput with the field at fault."""
    if not isinstance(event, Event):
        raise InvalidInput(f'an Event is wanted, as Event("name", {{…}}), not a {type(event).__name__}', "events")
    data = to_json(event.data)
    if not isinstance(data, dict):
        raise InvalidInput(f"a JSON object is wanted, not a {type(data).__name__}", "data")
    record = event_record(event.name, data, event.id, event.ts, to_json(event.user), event.v)
    check_event(record)
    return record


def from_record(record: EventRecord) -> Event:
    """Return an event as functions get it."""
    return Event(record.name, load_json(record.data, own=True), record.id, record.ts, load_json(record.user), record.v)
