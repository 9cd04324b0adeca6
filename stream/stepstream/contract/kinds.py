"""Enums that records share: the kinds of steps and the states of a run."""

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
    """The state of a run; the last three are final."""

    SCHEDULED = "scheduled"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
