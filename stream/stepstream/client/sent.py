"""What a client sends: the events of its callers as records with ids, so that a request can be repeated."""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec.structs import replace

from stepstream.contract.codec import dump_json, load_json, object_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import EventRecord
from stepstream.sdk.event import Event, to_record
from stepstream.sdk.function import Function
from stepstream.sdk.values import to_json


def records_of(events: Sequence[Any], fields: Mapping[str, Any]) -> list[EventRecord]:
    """Return what a call to `send` gives, events or the name and the fields of one, as records; each has an id."""
    if events and isinstance(events[0], str):
        return [_with_id(to_record(Event(*events, **fields)))]
    if fields or not events:
        raise InvalidInput('give events, as Event("name", {…}), or the name and the fields of one', "send")
    return [_with_id(to_record(event, f"events[{index}]")) for index, event in enumerate(events)]


def _with_id(record: EventRecord) -> EventRecord:
    return record if record.id else replace(record, id=uuid.uuid4().hex)


def function_id(function: Function[Any] | str) -> str:
    """Return the id of a function, which is given as such or by its id."""
    return function.id if isinstance(function, Function) else function


def object_of(data: Any, field: str) -> Any:
    """Return data as a plain JSON object, for None an empty one; raise InvalidInput if it is something else."""
    return load_json(object_json(None if data is None else to_json(data), field))


def json_body(value: Any) -> bytes:
    """Return the body of a request."""
    return bytes(dump_json(value, "body"))
