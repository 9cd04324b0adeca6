"""The life cycles of runs and steps: which record may take each from one state to which others."""

from collections.abc import Mapping
from typing import Literal

from stepstream.contract.errors import StepstreamError
from stepstream.engine.state.rows import OpenStep, Run

RunState = Literal["absent", "scheduled", "active", "backing-off"]
StepState = Literal["absent", "planned", "backing-off", "ready", "kept"]

# State, record, states after it. A run that ended is absent again; no row of it is left.
RUN_LIFE: Mapping[RunState, Mapping[str, tuple[RunState, ...]]] = {
    "absent": {
        "RunRequested": ("scheduled", "active"),
    },
    "scheduled": {
        "Tick": ("active",),
        "CancelRequested": ("absent",),
    },
    "active": {
        "RunClaimed": ("active",),
        "RunWarned": ("active",),
        "StepReported": ("active", "absent"),
        "StepFailed": ("active", "absent"),
        "StepsPlanned": ("active", "absent"),
        "StepResolved": ("active", "absent"),
        "EventMatched": ("active", "absent"),
        "StepPostponed": ("active",),
        "Tick": ("active", "absent"),
        "RunFailed": ("backing-off", "absent"),
        "RunPostponed": ("backing-off",),
        "RunReturned": ("absent",),
        "CancelRequested": ("absent",),
    },
    "backing-off": {
        "RunWarned": ("backing-off",),
        "StepReported": ("backing-off", "absent"),
        "StepFailed": ("backing-off", "absent"),
        "StepsPlanned": ("backing-off", "absent"),
        "StepResolved": ("backing-off", "absent"),
        "EventMatched": ("backing-off", "absent"),
        "StepPostponed": ("backing-off",),
        "Tick": ("backing-off", "active", "absent"),
        "RunReturned": ("absent",),
        "CancelRequested": ("absent",),
    },
}

# The same for a step while its run lives; the end of the run removes all its steps, in whatever state they are.
STEP_LIFE: Mapping[StepState, Mapping[str, tuple[StepState, ...]]] = {
    "absent": {
        "StepReported": ("kept",),
        "StepFailed": ("backing-off",),
        "StepsPlanned": ("planned", "ready", "kept"),
    },
    "planned": {
        "EventMatched": ("kept",),
        "StepResolved": ("kept",),
        "Tick": ("kept",),
        "StepsPlanned": ("planned", "absent"),
        "StepReported": ("kept",),
        "StepFailed": ("backing-off",),
    },
    "backing-off": {
        "Tick": ("ready",),
        "StepsPlanned": ("backing-off", "absent"),
        "StepReported": ("kept",),
        "StepFailed": ("backing-off",),
    },
    "ready": {
        "StepClaimed": ("ready",),
        "StepPostponed": ("backing-off",),
        "StepsPlanned": ("ready", "absent"),
        "StepReported": ("kept",),
        "StepFailed": ("backing-off",),
    },
    "kept": {},
}


class IllegalMove(StepstreamError):
    """A record took a run or a step where its life cycle has no way: a bug of the engine or of a worker."""

    code = "illegal-move"


def run_state(run: Run | None) -> RunState:
    """Return the state of a run by its row; one whose history has only its beginning has not started."""
    if run is None:
        return "absent"
    if not run.due:
        return "active"
    return "scheduled" if run.history_seq == 1 else "backing-off"


def open_state(opened: OpenStep | None) -> StepState:
    """Return the state of a step without a result by its row."""
    if opened is None:
        return "absent"
    if opened.kind != "run":
        return "planned"
    return "backing-off" if opened.due else "ready"


def check_run(before: Run | None, record: str, after: Run | None) -> None:
    """Raise IllegalMove unless `record` may take a run from `before` to `after`."""
    was, becomes = run_state(before), run_state(after)
    if becomes not in RUN_LIFE[was].get(record, ()):
        raise IllegalMove(f"{record} may not take a run from {was} to {becomes}")


def check_step(before: OpenStep | None, record: str, becomes: StepState) -> None:
    """Raise IllegalMove unless `record` may take a step without a result from `before` to the state `becomes`."""
    was = open_state(before)
    if becomes not in STEP_LIFE[was].get(record, ()):
        raise IllegalMove(f"{record} may not take a step from {was} to {becomes}")
