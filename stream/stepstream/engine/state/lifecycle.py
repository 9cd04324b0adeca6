"""The life cycles of runs and steps: which record may move each from one state to which others."""

from collections.abc import Mapping
from typing import Literal

from stepstream.contract.errors import StepstreamError
from stepstream.contract.kinds import StepKind
from stepstream.contract.operators.bulk import BulkState
from stepstream.engine.state.rows import Bulk, OpenStep, Run

RunState = Literal["absent", "scheduled", "queued", "active", "parked", "waking", "backing-off", "paused"]
StepState = Literal["absent", "planned", "queued", "backing-off", "ready", "kept"]

# State, record, next states. A run that ended is absent: none of its rows is left.
RUN_LIFE: Mapping[RunState, Mapping[str, tuple[RunState, ...]]] = {
    "absent": {
        "RunRequested": ("scheduled", "queued", "active"),
        "InvokeRequested": ("queued", "active"),
        "RerunRequested": ("queued", "active"),
    },
    "scheduled": {
        "Tick": ("queued", "active", "absent"),
        "EventMatched": ("absent",),
        "PauseRequested": ("paused",),
        "CancelRequested": ("absent",),
    },
    "queued": {
        "GateGranted": ("queued", "active", "parked"),
        "GateRefused": ("absent",),
        "Tick": ("absent",),
        "EventMatched": ("absent",),
        "PauseRequested": ("paused",),
        "ScopeResumed": ("queued",),
        "CancelRequested": ("absent",),
    },
    "active": {
        "GateGranted": ("active",),
        "GateRefused": ("absent",),
        "ExecutionStarted": ("active",),
        "RunClaimed": ("active", "parked", "absent"),
        "RunParked": ("active", "parked", "absent"),
        "WarningReported": ("active",),
        "AttributesSet": ("active",),
        "StateSet": ("active",),
        "LookBackTruncated": ("active",),
        "StepReported": ("active", "absent"),
        "StepFailed": ("active", "absent"),
        "HeartbeatReported": ("active", "absent"),
        "StepsPlanned": ("active", "absent"),
        "StepResolved": ("active", "absent"),
        "EventMatched": ("active", "absent"),
        "StepPostponed": ("active",),
        "Tick": ("active", "absent"),
        "RunFailed": ("backing-off", "absent"),
        "RunPostponed": ("backing-off",),
        "RunReturned": ("absent",),
        "RunContinued": ("absent",),
        "CancelRequested": ("absent",),
        "PauseRequested": ("paused",),
        "ScopeResumed": ("active",),
        "CommandsLost": ("active",),
    },
    # No worker has anything to do for it, and it has returned its permits of limits on work.
    "parked": {
        "GateGranted": ("parked", "waking"),
        "GateRefused": ("absent",),
        "LookBackTruncated": ("parked",),
        "StepReported": ("parked", "waking", "absent"),
        "StepFailed": ("parked",),
        "HeartbeatReported": ("parked",),
        "StepPostponed": ("parked",),
        "StepResolved": ("parked", "waking", "absent"),
        "EventMatched": ("parked", "waking", "absent"),
        "Tick": ("parked", "waking", "absent"),
        "CancelRequested": ("absent",),
        "PauseRequested": ("paused",),
        "ScopeResumed": ("waking",),
    },
    # It has something to do, and waits for permits of limits on work.
    "waking": {
        "GateGranted": ("waking", "active", "parked"),
        "GateRefused": ("absent",),
        "LookBackTruncated": ("waking",),
        "StepReported": ("waking", "absent"),
        "StepFailed": ("waking",),
        "HeartbeatReported": ("waking",),
        "StepPostponed": ("waking",),
        "StepResolved": ("waking", "absent"),
        "EventMatched": ("waking", "absent"),
        "Tick": ("waking", "absent"),
        "CancelRequested": ("absent",),
        "PauseRequested": ("paused",),
        "ScopeResumed": ("waking",),
    },
    "backing-off": {
        "GateGranted": ("backing-off",),
        "GateRefused": ("absent",),
        "WarningReported": ("backing-off",),
        "AttributesSet": ("backing-off",),
        "StateSet": ("backing-off",),
        "LookBackTruncated": ("backing-off",),
        "StepReported": ("backing-off", "absent"),
        "StepFailed": ("backing-off", "absent"),
        "HeartbeatReported": ("backing-off", "absent"),
        "StepsPlanned": ("backing-off", "absent"),
        "StepResolved": ("backing-off", "absent"),
        "EventMatched": ("backing-off", "absent"),
        "StepPostponed": ("backing-off",),
        "Tick": ("backing-off", "active", "waking", "absent"),
        "RunReturned": ("absent",),
        "RunContinued": ("absent",),
        "CancelRequested": ("absent",),
        "PauseRequested": ("paused",),
        "ScopeResumed": ("backing-off",),
    },
    # Its worker may still report what it had begun.
    "paused": {
        "PauseRequested": ("paused",),
        "UnpauseRequested": ("scheduled", "queued", "active", "parked", "waking", "backing-off"),
        "GateGranted": ("paused",),
        "GateRefused": ("absent",),
        "ScopeResumed": ("paused",),
        "ExecutionStarted": ("paused",),
        "RunClaimed": ("paused", "absent"),
        "RunParked": ("paused", "absent"),
        "WarningReported": ("paused",),
        "AttributesSet": ("paused",),
        "StateSet": ("paused",),
        "LookBackTruncated": ("paused",),
        "StepReported": ("paused", "absent"),
        "StepFailed": ("paused", "absent"),
        "HeartbeatReported": ("paused", "absent"),
        "StepsPlanned": ("paused", "absent"),
        "StepResolved": ("paused", "absent"),
        "EventMatched": ("paused", "absent"),
        "StepPostponed": ("paused",),
        "RunFailed": ("paused", "absent"),
        "RunPostponed": ("paused",),
        "Tick": ("paused", "scheduled", "queued", "active", "parked", "waking", "backing-off", "absent"),
        "RunReturned": ("absent",),
        "CancelRequested": ("absent",),
    },
}

# The same for a step of an open run; the end of the run removes its steps in any state.
STEP_LIFE: Mapping[StepState, Mapping[str, tuple[StepState, ...]]] = {
    "absent": {
        "RerunRequested": ("kept",),
        "StepReported": ("kept",),
        "StepFailed": ("backing-off",),
        "HeartbeatReported": ("ready",),
        "StepsPlanned": ("planned", "queued", "ready", "backing-off", "kept"),
    },
    "planned": {
        "EventMatched": ("planned", "kept"),
        "ChildContinued": ("planned",),
        "StepResolved": ("planned", "kept"),
        "Tick": ("planned", "kept"),
        "StepsPlanned": ("planned", "absent"),
        "StepReported": ("kept",),
        "StepFailed": ("backing-off",),
    },
    # The body of a step waits for a limit. It may run, or have a result, without it if the code has changed.
    "queued": {
        "GateGranted": ("queued", "ready", "backing-off"),
        "RunClaimed": ("queued", "ready"),
        "RunParked": ("queued", "ready"),
        "RunFailed": ("queued",),
        "RunPostponed": ("queued",),
        "HeartbeatReported": ("ready",),
        "StepsPlanned": ("queued", "absent"),
        "StepReported": ("kept",),
        "StepFailed": ("backing-off",),
    },
    "backing-off": {
        "Tick": ("queued", "ready"),
        "StepsPlanned": ("backing-off", "absent"),
        "StepReported": ("kept",),
        "StepFailed": ("backing-off",),
    },
    "ready": {
        "StepClaimed": ("ready", "backing-off"),
        "StepPostponed": ("backing-off",),
        "RunClaimed": ("queued",),
        "RunParked": ("queued",),
        "RunFailed": ("queued",),
        "RunPostponed": ("queued",),
        "HeartbeatReported": ("ready",),
        "StepsPlanned": ("ready", "absent"),
        "StepReported": ("kept",),
        "StepFailed": ("backing-off",),
    },
    "kept": {},
}

# The same for a bulk operation, which is remembered for a while after its end.
BULK_LIFE: Mapping[Literal["absent"] | BulkState, Mapping[str, tuple[Literal["absent"] | BulkState, ...]]] = {
    "absent": {
        "BulkStarted": (BulkState.RECEIVING,),
    },
    BulkState.RECEIVING: {
        "BulkStarted": (BulkState.RECEIVING,),
        "BulkPageAdded": (BulkState.RECEIVING, BulkState.RUNNING, BulkState.COMPLETED),
        "BulkCancelRequested": (BulkState.CANCELLED,),
        "Tick": (BulkState.EXPIRED,),
    },
    BulkState.RUNNING: {
        "Tick": (BulkState.RUNNING, BulkState.COMPLETED),
        "BulkItemEnded": (BulkState.RUNNING, BulkState.COMPLETED),
        "BulkCancelRequested": (BulkState.CANCELLED,),
    },
    BulkState.COMPLETED: {
        "Tick": (BulkState.COMPLETED, "absent"),
    },
    BulkState.CANCELLED: {
        "BulkItemEnded": (BulkState.CANCELLED,),
        "Tick": (BulkState.CANCELLED, "absent"),
    },
    BulkState.EXPIRED: {
        "Tick": (BulkState.EXPIRED, "absent"),
    },
}


class IllegalMove(StepstreamError):
    """A record would move a run or a step against its life cycle: a bug of the engine or of a worker."""

    code = "illegal-move"


def state_of_run(run: Run | None) -> RunState:
    """Return the state of a run by its row; a run that has not passed its gates, or only begun, has not started.

    One that is parked has started, and passes its gates on work again when it wakes.
    """
    if run is None:
        return "absent"
    if run.paused:
        return "paused"
    if not run.due:
        if run.parked:
            return "waking" if run.asked > run.granted else "parked"
        return "queued" if run.queued else "active"
    return "scheduled" if (run.queued and not run.parked) or run.history_seq == 1 else "backing-off"


def state_of_step(step: OpenStep | None) -> StepState:
    """Return the state of a step without a result by its row."""
    if step is None:
        return "absent"
    if step.kind != StepKind.RUN:
        return "planned"
    if step.due:
        return "backing-off"
    return "queued" if step.queued else "ready"


def state_of_bulk(bulk: Bulk | None) -> Literal["absent"] | BulkState:
    """Return the state of a bulk operation by its row."""
    return bulk.shown.state if bulk else "absent"


def check_bulk(before: Bulk | None, record_type: str, after: Bulk | None) -> None:
    """Raise IllegalMove unless a record of this type may move a bulk operation from `before` to `after`."""
    was, becomes = state_of_bulk(before), state_of_bulk(after)
    if becomes not in BULK_LIFE[was].get(record_type, ()):
        raise IllegalMove(f"{record_type} may not move a bulk operation from {was} to {becomes}")


def check_run(before: Run | None, record_type: str, after: Run | None) -> None:
    """Raise IllegalMove unless a record of this type may move a run from `before` to `after`."""
    was, becomes = state_of_run(before), state_of_run(after)
    if becomes not in RUN_LIFE[was].get(record_type, ()):
        raise IllegalMove(f"{record_type} may not move a run from {was} to {becomes}")


def check_step(before: OpenStep | None, record_type: str, becomes: StepState) -> None:
    """Raise IllegalMove unless a record of this type may move a step from `before` to the state `becomes`."""
    was = state_of_step(before)
    if becomes not in STEP_LIFE[was].get(record_type, ()):
        raise IllegalMove(f"{record_type} may not move a step from {was} to {becomes}")
