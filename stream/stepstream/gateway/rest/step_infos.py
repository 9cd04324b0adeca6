"""What a trace says of a step beside its result: how long it sleeps, what it waits for, or which run it invoked."""

from collections.abc import Mapping
from typing import Any

from stepstream.contract.ids import is_run_id, run_hash, run_routing
from stepstream.contract.kinds import OPEN_STEP_STATUSES, StepKind, StepStatus
from stepstream.gateway.rest.recent_events import RecentEvents
from stepstream.gateway.rest.replies import iso
from stepstream.gateway.runs.results import INVOKE_TIMEOUT
from stepstream.gateway.wire.internal_events import sdk_name
from stepstream.runtime.readmodel.views import RunView, StepView

# The runs that a run invoked, by the routing keys of their ids.
Children = Mapping[str, str]


def ulid_of(id: str) -> str | None:
    """Return an id that has the form of a ULID, None for any other: clients in Go parse ids."""
    return id if is_run_id(id) else None


def step_info(run: RunView, step: StepView, children: Children, recent: RecentEvents) -> dict[str, Any] | None:
    """Return what a step is about, in the form of one of the types of StepInfo; None for the other steps."""
    match step.kind:
        case StepKind.RUN | StepKind.SEND:
            return {"__typename": "RunStepInfo", "type": None}
        case StepKind.SLEEP:
            return {"__typename": "SleepStepInfo", "sleepUntil": _until(step)}
        case StepKind.WAIT:
            event, _, condition = step.detail.partition(" ")
            found = {"eventName": sdk_name(event), "expression": condition or None, "foundEventID": None}
            if isinstance(step.output, dict):
                found["foundEventID"] = ulid_of(recent.internal_id(str(step.output.get("id"))))
            return {"__typename": "WaitForEventStepInfo", **found, **_times(step)}
        case StepKind.SIGNAL:
            return {"__typename": "WaitForSignalStepInfo", "signal": step.detail, **_times(step)}
        case StepKind.INVOKE:
            return {"__typename": "InvokeStepInfo", **_invocation(run, step, children), **_times(step)}
    return None


def _invocation(run: RunView, step: StepView, children: Children) -> dict[str, Any]:
    child = children.get(run_hash(step.detail, f"{run.run_id}:{step.step}"))
    if _is_timed_out(step):
        child = None
    return {
        # The event of an invocation has an id of the engine's own, which is not a ULID.
        "triggeringEventID": child or run.run_id,
        "functionID": step.detail,
        "returnEventID": None if step.status in OPEN_STEP_STATUSES else child,
        "runID": child,
    }


def _times(step: StepView) -> dict[str, Any]:
    timed_out = None if step.status in OPEN_STEP_STATUSES else _is_timed_out(step)
    return {"timeout": _until(step), "timedOut": timed_out}


def _until(step: StepView) -> str | None:
    """Return when a step times out or its sleep ends; if that is unknown, when it ended or began."""
    return iso(step.until or step.ended_at or step.first_at)


def _is_timed_out(step: StepView) -> bool:
    code = step.error.get("code") if isinstance(step.error, dict) else None
    return step.status == StepStatus.TIMED_OUT or code == INVOKE_TIMEOUT


def children_of(run_ids: list[str]) -> Children:
    """Return the runs that a run invoked, by the routing keys of their ids."""
    return {run_routing(id): id for id in run_ids}
