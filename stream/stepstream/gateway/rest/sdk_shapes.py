"""Runs, events and errors as the SDKs read them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from stepstream.contract.codec import Json, encode, load_json
from stepstream.contract.errors import InvalidInput
from stepstream.contract.events import CRON, EventRecord, decode_stored_event
from stepstream.contract.kinds import OPEN_RUN_STATUSES, RunStatus
from stepstream.gateway.rest.recent_events import AcceptedEvent, RecentEvents
from stepstream.gateway.rest.replies import iso
from stepstream.gateway.runs.results import INVOKE_TIMEOUT
from stepstream.gateway.wire.calls import function_uuid
from stepstream.gateway.wire.internal_events import event_json, sdk_name
from stepstream.gateway.wire.memos import INVOKE_TIMEOUT_MESSAGE, INVOKE_TIMEOUT_NAME
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
    return [event_fields(event, run.function) for event in listed if isinstance(event, dict)]


def event_fields(event: Mapping[str, Any], function: str = "") -> dict[str, Any]:
    """Return a stored event as SDKs get it; `function` is the one that it started, if it invoked one."""
    return record_fields(decode_stored_event(encode(event)), function)


def record_fields(record: EventRecord, function: str = "") -> dict[str, Any]:
    """Return an event as SDKs get it."""
    shown = load_json(event_json(record, function), own=True)
    return shown if isinstance(shown, dict) else {}


def listed_event(event: Mapping[str, Any], internal_id: str, received_at: int) -> dict[str, Any]:
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
    return listed_event(record_fields(event.record), event.internal_id, event.received_at)


def error_object(error: Json) -> Json:
    """Return the error of a run or a step as the SDK reported it; None without one."""
    if not isinstance(error, dict):
        return None
    raw = error.get("raw")
    if error.get("code") == INVOKE_TIMEOUT:
        # As the memo of the step says it.
        return {"name": INVOKE_TIMEOUT_NAME, "message": INVOKE_TIMEOUT_MESSAGE}
    return (
        raw if isinstance(raw, dict) else {name: error[name] for name in ("name", "message", "stack") if name in error}
    )


def result_of(status: str, output: Json, error: Json) -> Json:
    """Return what a run returned, or the error with which it ended; None while it is open, even if it is retried."""
    if status in OPEN_RUN_STATUSES:
        return None
    return output if status == RunStatus.COMPLETED else error_object(error)


def run_json(run: RunSummary, result: tuple[Json, Json], recent: RecentEvents) -> dict[str, Any]:
    """Return a run of /v1/runs; `result` is its output and its error."""
    first = next(iter(events_of(run)), None) or {"id": "", "name": "", "data": {}}
    optional = {"original_run_id": run.origin} if run.origin else {}
    if first["name"] == sdk_name(CRON):
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
