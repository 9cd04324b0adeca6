"""The event: it starts functions and ends the waits of runs."""

import re
from collections.abc import Mapping, Sequence

import msgspec
from msgspec.structs import astuple

from stepstream.contract.codec import EMPTY_OBJECT, NULL, Json, Raw, dump_json, encode, has_lone_surrogate, load_json
from stepstream.contract.errors import InvalidInput, TooLarge
from stepstream.contract.limits import (
    EVENT_ID_CHARACTERS_MAX,
    EVENT_NAME_CHARACTERS_MAX,
    LOGGED_EVENT_BYTES_MAX,
    OWN_EVENT_BYTES_MAX,
    SENT_EVENT_BYTES_MORE,
    TIMESTAMP_MS_MAX,
    Limits,
)

OWN_PREFIX = "stream/"
FINISHED = "stream/function.finished"
FAILED = "stream/function.failed"
CANCELLED = "stream/function.cancelled"
INVOKED = "stream/function.invoked"
CRON = "stream/cron"
# The events that the engine itself writes to the log.
OWN_NAMES = frozenset({FINISHED, FAILED, CANCELLED})
ORIGIN_HEADER = "stepstream-origin"
ENGINE_ORIGIN = b"engine"
# How many runs precede the event in its chain, as decimal digits; an event without it starts a chain.
CHAIN_HEADER = "stepstream-chain"


class EventRef(msgspec.Struct, frozen=True):
    """The name and the id of an event."""

    name: str
    id: str


class EventRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """An event on the wire; `data` is a JSON object, `ts` is in Unix milliseconds (0: the time of its arrival).

    Without an `id` the position in the log is its identity; with one it starts each function once in 24 h. `meta` is
    what SDKs of other languages send beside the data.
    """

    name: str
    data: Raw = EMPTY_OBJECT
    id: str = ""
    ts: int = 0
    user: Raw = NULL
    v: str = ""
    meta: Raw = NULL

    @property
    def payload_bytes(self) -> int:
        """The size of what its sender put into it."""
        return len(self.data) + len(self.user) + len(self.meta)


EVENT_FIELDS = EventRecord.__struct_fields__


class _StrictEventRecord(EventRecord, frozen=True, forbid_unknown_fields=True):
    """An event in which an unknown field is an error."""


_CONTROL_CHARACTERS = r"[\x00-\x1f\x7f]"
# The bounds of an event of other producers in the subset of JSON Schema that all validators have, as in check_event.
EVENT_BOUNDS: Mapping[str, Mapping[str, Json]] = {
    "name": {
        "minLength": 1,
        "maxLength": EVENT_NAME_CHARACTERS_MAX,
        "not": {"pattern": f"^{OWN_PREFIX}|{_CONTROL_CHARACTERS}"},
    },
    "data": {"type": "object"},
    "id": {"maxLength": EVENT_ID_CHARACTERS_MAX, "not": {"pattern": _CONTROL_CHARACTERS}},
    "ts": {"minimum": 0, "maximum": TIMESTAMP_MS_MAX},
}

_EVENT = msgspec.json.Decoder(EventRecord)
_STRICT_EVENT = msgspec.json.Decoder(_StrictEventRecord)
_UNKNOWN = re.compile(r"unknown field `(.*)`$")
_MISSING = re.compile(r"missing required field `(.*)`$")
_CONTROL = re.compile(_CONTROL_CHARACTERS)


def decode_event(
    value: bytes, bytes_max: int = LOGGED_EVENT_BYTES_MAX, *, own: bool = False, strict: bool = False
) -> EventRecord:
    """Return the event in `value`; raise InvalidInput or TooLarge with the invalid field.

    `own` says that the engine wrote the record, which any producer may claim. It allows the names in OWN_NAMES, whose
    data contains a run's event and result and may be larger; all other events keep their bounds. `strict` refuses
    unknown fields, so that a caller learns of a misspelled name; records of other producers may have more fields.
    """
    # The size is bounded before anything is decoded.
    _check_size(value, OWN_EVENT_BYTES_MAX if own else bytes_max)
    try:
        event = EventRecord(*astuple(_STRICT_EVENT.decode(value))) if strict else _EVENT.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(*_explain(str(error))) from None
    about_run = own and event.name in OWN_NAMES
    if not about_run:
        _check_size(value, bytes_max + SENT_EVENT_BYTES_MORE * own)
    check_event(event, own=about_run)
    return event


def _check_size(value: bytes, most: int) -> None:
    if len(value) > most:
        raise TooLarge(f"the event has {len(value):,} bytes, at most {most:,} are allowed", "event")


def decode_stored_event(value: bytes | Raw) -> EventRecord:
    """Return an event that stepstream itself wrote."""
    return _EVENT.decode(value)


class StoredEvents(msgspec.Struct, frozen=True):
    """The result of a step that waited for several events: those that came, by the names that the code gives them."""

    events: dict[str, EventRecord]


_EVENTS = msgspec.json.Decoder(StoredEvents)


def decode_stored_events(value: bytes | Raw) -> dict[str, EventRecord]:
    """Return the events that ended a wait by their names; the name of a wait for one event is empty."""
    try:
        return {"": decode_stored_event(value)}
    except msgspec.ValidationError:
        return _EVENTS.decode(value).events


def _explain(message: str) -> tuple[str, str]:
    reason, _, path = message.partition(" - at `$")
    if unknown := _UNKNOWN.search(reason):
        return f"unknown field; an event has only {', '.join(EVENT_FIELDS)}", unknown[1]
    if missing := _MISSING.search(reason):
        return "an event needs this field", missing[1]
    return reason, path.strip("`.") or "event"


def check_event(event: EventRecord, *, own: bool = False) -> None:
    """Raise InvalidInput when a field of `event` is out of bounds."""
    check_event_name(event.name, own=own)
    if len(event.id) > EVENT_ID_CHARACTERS_MAX or _CONTROL.search(event.id) or has_lone_surrogate(event.id):
        raise InvalidInput(f"use at most {EVENT_ID_CHARACTERS_MAX} characters, no control characters", "id")
    if has_lone_surrogate(event.v):
        raise InvalidInput("the string contains a lone surrogate", "v")
    if not 0 <= event.ts <= TIMESTAMP_MS_MAX:
        raise InvalidInput("use Unix milliseconds, from 1970 on", "ts")
    if not isinstance(load_json(event.data, own=own, field="data"), dict):
        raise InvalidInput("use a JSON object", "data")
    load_json(event.user, field="user")
    load_json(event.meta, field="meta")


def check_batch(events: Sequence[EventRecord], limits: Limits) -> None:
    """Raise TooLarge when there are too many events for one request, or one of them is too large."""
    encode_batch(events, limits)


def encode_batch(events: Sequence[EventRecord], limits: Limits) -> list[bytes]:
    """Return the events of one request as they are written to the log; raise TooLarge as check_batch does."""
    if len(events) > limits.events_per_request_max:
        raise TooLarge(f"{len(events):,} events; one request has at most {limits.events_per_request_max:,}", "events")
    values = [encode(event) for event in events]
    if (largest := max(map(len, values), default=0)) > limits.event_bytes_max:
        raise TooLarge(f"the event has {largest:,} bytes, at most {limits.event_bytes_max:,} are allowed", "event")
    if (total := sum(map(len, values))) > limits.request_bytes_max:
        raise TooLarge(f"{total:,} bytes; one request has at most {limits.request_bytes_max:,}", "events")
    return values


def check_event_name(name: str, *, own: bool = False) -> None:
    """Raise InvalidInput when `name` is not a valid event name."""
    if not name or len(name) > EVENT_NAME_CHARACTERS_MAX or _CONTROL.search(name) or has_lone_surrogate(name):
        raise InvalidInput(f"use 1 to {EVENT_NAME_CHARACTERS_MAX} characters, no control characters", "name")
    if not own and name.startswith(OWN_PREFIX):
        raise InvalidInput(f"names under {OWN_PREFIX!r} are the engine's own; choose another", "name")


def event_fields(event: EventRecord) -> dict[str, Json]:
    """Return the event as expressions and functions see it: name, data, id, ts, user, v, meta."""
    return {
        "name": event.name,
        "data": load_json(event.data, own=True),
        "id": event.id,
        "ts": event.ts,
        "user": load_json(event.user),
        "v": event.v,
        "meta": load_json(event.meta),
    }


def event_record(
    name: str, data: Mapping[str, object] | None = None, id: str = "", ts: int = 0, user: object = None, v: str = ""
) -> EventRecord:
    """Build an event from Python values; raise InvalidInput for values that do not fit."""
    return EventRecord(name, dump_json(dict(data or {}), "event's data"), id, ts, dump_json(user, "event's user"), v)
