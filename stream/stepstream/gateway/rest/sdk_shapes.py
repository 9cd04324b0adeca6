"""Runs, events and errors as the SDKs read them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from stepstream.contract.codec import Json, load_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import CRON, EventRecord
from stepstream.contract.kinds import OPEN_RUN_STATUSES, RunStatus
from stepstream.gateway.rest.recent_events import AcceptedEvent, RecentEvents
from stepstream.gateway.rest.replies import iso
from stepstream.runtime.readmodel.views import RunSummary

# There are neither accounts nor environments; SDKs expect ids of them.
ACCOUNT_ID, ENVIRONMENT_ID = str(UUID(int=1)), str(UUID(int=2))
STATUSES: Mapping[str, str] = {
    RunStatus.SCHEDULED: "Scheduled",
    RunStatus.QUEUED: "Scheduled",
    RunStatus.RUNNING: "Running",
    RunStatus.COMPLETED: "Completed",
    RunStatus.FAILED: "Failed",
    RunStatus.CANCELLED: "Cancelled",
    RunStatus.SKIPPED: "Skipped",
}


def function_uuid(function_id: str) -> str:
    """Return the UUID of a function, where SDKs do not accept its id."""
    return str(uuid5(NAMESPACE_URL, f"stepstream:function:{function_id}"))


def app_uuid(name: str) -> str:
    """Return the UUID of an app."""
    return str(uuid5(NAMESPACE_URL, f"stepstream:app:{name}"))


def moment_of(text: str, field: str) -> int:
    """Return an ISO 8601 time of an SDK as Unix ms; raise InvalidInput if it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"{text!r} is not an ISO 8601 time", field) from None
    if moment.tzinfo is None:
        raise InvalidInput(f"{text!r} has no time zone; add Z for UTC", field)
    return round(moment.timestamp() * 1_000)


def events_of(run: RunSummary) -> list[dict[str, Any]]:
    """Return the events of a run as SDKs get them."""
    listed = run.events if isinstance(run.events, list) else []
    return [event_fields(event) for event in listed if isinstance(event, dict)]


def event_fields(event: Mapping[str, Any]) -> dict[str, Any]:
    """Return a stored event as SDKs get it: fields of which the default is not stored are present."""
    optional = {name: event[name] for name in ("user", "v") if event.get(name)}
    return {
        "name": event["name"],
        "data": event.get("data") or {},
        "id": event.get("id", ""),
        "ts": event.get("ts", 0),
        **optional,
    }


def record_fields(record: EventRecord) -> dict[str, Any]:
    """Return an accepted event as SDKs get it."""
    event = {"name": record.name, "data": load_json(record.data), "id": record.id, "ts": record.ts, "v": record.v}
    return event_fields({**event, "user": load_json(record.user)})


def event_json(event: Mapping[str, Any], internal_id: str, received_at: int) -> dict[str, Any]:
    """Return an event of /v1/events."""
    return {
        "internal_id": internal_id,
        "account_id": ACCOUNT_ID,
        "environment_id": ENVIRONMENT_ID,
        "source": "",
        "source_id": None,
        "received_at": iso(received_at),
        **event,
    }


def accepted_json(event: AcceptedEvent) -> dict[str, Any]:
    """Return an event that this process accepted, as in /v1/events."""
    return event_json(record_fields(event.record), event.internal_id, event.received_at)


def error_object(error: Json) -> Json:
    """Return the error of a run or a step as the SDK reported it; None without one."""
    if not isinstance(error, dict):
        return None
    return {name: error[name] for name in ("name", "message", "stack") if name in error}


def result_of(status: str, output: Json, error: Json) -> Json:
    """Return what a run returned, or the error with which it ended; None while it is open, even if it is retried."""
    if status in OPEN_RUN_STATUSES:
        return None
    return output if status == RunStatus.COMPLETED else error_object(error)


def run_json(run: RunSummary, result: tuple[Json, Json], recent: RecentEvents) -> dict[str, Any]:
    """Return a run of /v1/runs; `result` is its output and its error."""
    first = next(iter(events_of(run)), None) or {"id": "", "name": "", "data": {}}
    optional = {"original_run_id": run.origin} if run.origin else {}
    if first["name"] == CRON:
        optional["cron"] = first["data"].get("cron", "")
    return {
        "run_id": run.run_id,
        "run_started_at": iso(run.started_at or run.accepted_at),
        "function_id": function_uuid(run.function),
        "function_version": 1,
        "environment_id": ENVIRONMENT_ID,
        "event_id": recent.internal_id(first["id"]),
        "status": STATUSES[run.status],
        "ended_at": iso(run.ended_at),
        "output": result_of(run.status, *result),
        **optional,
    }
