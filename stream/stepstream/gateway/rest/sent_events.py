"""Reads the events of a request as SDKs send them: more leniently than those of the API, and with ids from seeds."""

import base64
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec

from stepstream.contract.codec import EMPTY_OBJECT, NULL, Raw, dump_json, load_json
from stepstream.contract.errors import InvalidInput, TooLarge
from stepstream.contract.events import INVOKED, EventRecord, check_event
from stepstream.contract.limits import Limits
from stepstream.gateway.wire.event_meta import read_meta
from stepstream.gateway.wire.internal_events import check_sent_name
from stepstream.gateway.wire.seeds import seeded_ids

# SDKs refuse other times as implausible: from 1980 to 2100.
TS_MS_MIN, TS_MS_MAX = 315_532_800_000, 4_102_444_800_000
_ENTROPY_BYTES = 10
_INTERNAL = "_inngest"
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


class SentEvent(msgspec.Struct, frozen=True):
    """An event as an SDK sends it; null means absent, and unknown fields are ignored."""

    name: str | None = None
    data: Raw = NULL
    id: str | None = None
    ts: int | float | None = None
    user: Raw = NULL
    v: str | None = None
    meta: Raw = NULL


_decode = msgspec.json.Decoder(SentEvent).decode


def split_events(body: bytes, limits: Limits) -> Sequence[bytes | Raw]:
    """Return the events of a request, an object or an array; raise InvalidInput if it is neither, or has too many."""
    if not body.lstrip().startswith(b"["):
        return [body]
    try:
        parts = _split(body)
    except (msgspec.DecodeError, RecursionError) as error:
        raise InvalidInput(str(error), "body") from None
    if len(parts) > limits.events_per_request_max:
        raise InvalidInput(f"expected at most {limits.events_per_request_max:,} events, got {len(parts):,}", "body")
    return parts


def event_ids(seed: str, count: int, now_ms: int) -> list[str]:
    """Return the ULIDs of the events of a request: the same ones for the same seed, new ones without a valid seed."""
    chance = base64.b64encode(secrets.token_bytes(_ENTROPY_BYTES)).decode()
    return seeded_ids(seed, count) or seeded_ids(f"{now_ms},{chance}", count) or []


def read_event(part: bytes | Raw, internal_id: str, now_ms: int, limits: Limits) -> EventRecord:
    """Return the event that an SDK sent; raise InvalidInput if it is invalid, and TooLarge if it is too large."""
    sent = _decoded(part, limits)
    name = sent.name or ""
    check_sent_name(name)
    ts = int(sent.ts or 0)
    if ts and not TS_MS_MIN <= ts <= TS_MS_MAX:
        raise InvalidInput("use Unix milliseconds between 1980 and 2100", "ts")
    data = _without_internal(sent.data)
    id, meta = sent.id or internal_id, read_meta(sent.meta)
    event = EventRecord(name, data, id, ts or now_ms, sent.user, sent.v or "", meta)
    check_event(event)
    return event


def read_invocation(body: bytes, limits: Limits) -> EventRecord:
    """Return the event by which a request starts one function; raise as `read_event` does.

    The server sets its name, its id and its time, so those of the request do not count.
    """
    sent = _decoded(body or b"{}", limits)
    event = EventRecord(
        INVOKED, _without_internal(sent.data), user=sent.user, v=sent.v or "", meta=read_meta(sent.meta)
    )
    check_event(event, own=True)
    return event


def _decoded(part: bytes | Raw, limits: Limits) -> SentEvent:
    if len(bytes(part)) > limits.event_bytes_max:
        raise TooLarge(
            f"the event has {len(bytes(part)):,} bytes, at most {limits.event_bytes_max:,} are allowed", "event"
        )
    try:
        return _decode(part)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(str(error), "event") from None


def _without_internal(data: Raw) -> Raw:
    """Return the data of an event without what only the server may put there."""
    if bytes(data) == bytes(NULL):
        return EMPTY_OBJECT
    if _INTERNAL.encode() not in bytes(data):
        return data
    value: Any = load_json(data, field="data")
    if not isinstance(value, dict):
        return data
    return dump_json({key: inner for key, inner in value.items() if key != _INTERNAL})
