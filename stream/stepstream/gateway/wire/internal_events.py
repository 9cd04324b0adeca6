"""Events as SDKs see them: their shape in calls and memos, and the names and data of the internal ones both ways."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from stepstream.contract.codec import Json, Raw, encode, load_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import CANCELLED, CRON, FAILED, FINISHED, INVOKED, EventRecord
from stepstream.gateway.wire.canonical import canonical_json

SDK_PREFIX = "inngest/"
_SDK_NAMES = {
    FINISHED: "inngest/function.finished",
    FAILED: "inngest/function.failed",
    CANCELLED: "inngest/function.cancelled",
    INVOKED: "inngest/function.invoked",
    CRON: "inngest/scheduled.timer",
}
_OWN_NAMES = {theirs: ours for ours, theirs in _SDK_NAMES.items()}
_END_NAMES = (FINISHED, FAILED, CANCELLED)
_QUOTED = re.compile(r"""(['"])(inngest/[a-z.]+)\1""")
# What an error has in these events: not the codes of one SDK.
_ERROR_FIELDS = ("name", "message", "stack", "cause", "__serialized")
# The texts by which the protocol says that user code failed: an attempt that raised, or one that forbids a retry.
_RAISED = "invalid status code: 500"
_NON_RETRIABLE = "NonRetriableError"


def sdk_name(event: str) -> str:
    """Return the name by which an SDK knows an event of the engine; other names are the same."""
    return _SDK_NAMES.get(event, event)


def own_name(event: str) -> str:
    """Return the engine's name of an event that an SDK names; other names are the same."""
    return _OWN_NAMES.get(event, event)


def own_condition(expression: str) -> str:
    """Return a CEL expression of an SDK in which the engine's names of internal events stand for those of SDKs."""
    return _QUOTED.sub(lambda found: found[0].replace(found[2], own_name(found[2])), expression)


def check_sent_name(event: str) -> None:
    """Raise InvalidInput if an app may not send events of this name."""
    if event.lower().startswith(SDK_PREFIX):
        raise InvalidInput(f"names under {SDK_PREFIX!r} are internal; choose another", "name")


def event_json(event: EventRecord, function: str = "") -> Raw:
    """Return an event as the SDK of `function`, a composite id, expects it, in canonical JSON.

    It always has a name, data, an id and a time, so that no SDK takes it for a wrapped value.
    """
    shape: dict[str, Json] = {
        "name": sdk_name(event.name),
        "data": _data(event, function),
        "id": event.id,
        "ts": event.ts,
        "user": load_json(event.user) or {},
    }
    if event.v:
        shape["v"] = event.v
    if meta := load_json(event.meta):
        shape["meta"] = meta
    return canonical_json(encode(shape))


def _data(event: EventRecord, function: str) -> Json:
    data = load_json(event.data, own=True)
    if not isinstance(data, dict):
        return {}
    if event.name == CRON:
        scheduled_at = data.pop("scheduled_at", event.ts)
        times = {"scheduledAt": scheduled_at, "fireAt": event.ts}
        return {**data, **{name: utc_text(at) for name, at in times.items() if isinstance(at, int)}}
    if event.name == INVOKED:
        return {**data, "_inngest": _inner(data, {"fn_id": function, "correlation_id": event.id.replace(":", ".", 1)})}
    if event.name in _END_NAMES:
        status = str(data.get("status", "")).capitalize()
        hidden = ("status", "error", "raw_error", "non_retriable")
        shown: dict[str, Json] = {name: value for name, value in data.items() if name not in hidden}
        if isinstance(cause := data.get("event"), dict):
            shown["event"] = _shaped(cause)
            shown["events"] = [shown["event"]]
        error = _error(data)
        return {**shown, **error, "_inngest": _inner(data, {"status": status, **error})}
    return data


def utc_text(at_ms: int) -> str:
    """Return a time (Unix ms) as the SDKs parse it."""
    return datetime.fromtimestamp(at_ms / 1_000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _error(data: Mapping[str, Json]) -> dict[str, Json]:
    """Return the error of a run that ended, as handlers of failures read it; nothing for a run that completed."""
    own = data.get("error")
    if not isinstance(own, dict):
        return {}
    reported = data.get("raw_error")
    given = reported if isinstance(reported, dict) else own
    is_raised = given is reported and not own.get("code")
    raised = _NON_RETRIABLE if data.get("non_retriable") else _RAISED
    text = raised if is_raised else own.get("message")
    return {"error": {"error": text, **{name: given[name] for name in _ERROR_FIELDS if name in given}}}


def _inner(data: Mapping[str, Json], own: dict[str, Json]) -> Json:
    # An app may encrypt a whole event, and leaves the key of the server beside it.
    given = data.get("_inngest")
    return {**given, **own} if isinstance(given, dict) else own


def _shaped(event: Mapping[str, Json]) -> Json:
    """Return the event in the data of another one, whose record leaves out what is empty."""
    return {"data": {}, "id": "", "ts": 0, **event, "name": sdk_name(str(event.get("name", "")))}
