"""Enums that records and views share: the kinds of steps, and the states of runs and of steps."""

from enum import StrEnum


class StepKind(StrEnum):
    """What a step does; the plan of a step has the same word as its type."""

    RUN = "run"
    SLEEP = "sleep"
    WAIT = "wait"
    SIGNAL = "signal"
    SEND = "send"
    INVOKE = "invoke"


class RunStatus(StrEnum):
    """The state of a run; the last four are final. The code of a run that is `skipped` never ran."""

    SCHEDULED = "scheduled"
    QUEUED = "queued"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


class StepStatus(StrEnum):
    """The state of a step as the list of runs shows it; the first three are those of an open step.

    A body is known to be `running` once it sends a heartbeat.
    """

    WAITING = "waiting"
    RUNNING = "running"
    RETRYING = "retrying"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMED_OUT = "timed_out"
    CANCELLED = "cancelled"


# The states of a run that has not ended, and of one that has.
OPEN_RUN_STATUSES = (RunStatus.SCHEDULED, RunStatus.QUEUED, RunStatus.RUNNING)
ENDED_RUN_STATUSES = tuple(status for status in RunStatus if status not in OPEN_RUN_STATUSES)
# Those of a run whose code has not started.
NOT_STARTED = (RunStatus.SCHEDULED, RunStatus.QUEUED)
# The states of a step that has no result yet.
OPEN_STEP_STATUSES = frozenset((StepStatus.WAITING, StepStatus.RUNNING, StepStatus.RETRYING))
