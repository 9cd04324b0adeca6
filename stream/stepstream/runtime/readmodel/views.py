"""Runs and steps as the read model shows them, made from its rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from stepstream.contract.codec import Json, load_json
from stepstream.contract.errors import StepstreamError
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.names import workers_name

RUN_COLUMNS = (
    "run_id, function, app, status, accepted_at, started_at, ended_at, events, error, caller, warnings, attempt, "
    "retry_at, epoch"
)
_NAMES = RUN_COLUMNS.split(", ")


class UnreadableRuns(StepstreamError):
    """The file of the runs is damaged, or is none."""

    code = "unreadable-runs"


@dataclass(frozen=True, slots=True)
class StepView:
    """A step of a run: `status` is completed, failed, timed_out, waiting, retrying or cancelled; times in Unix ms."""

    step: str
    id: str
    kind: str
    status: str
    attempts: int
    first_at: int
    started_at: int
    ended_at: int
    until: int
    detail: str
    output: Json
    error: Json


def queue_of(kind: str, detail: str) -> str:
    """Return the queue in which the body of a step is run; "" when it is that of the app."""
    return detail.removeprefix("queue ") if kind == StepKind.RUN else ""


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run as lists have it: `status` is a RunStatus; times in Unix ms, 0 where unknown.

    Lists leave out what may be large: the data of `events`, the stack of `error`, and what only RunView has.
    """

    run_id: str
    function: str
    app: str
    status: str
    accepted_at: int
    started_at: int
    ended_at: int
    events: Json
    error: Json
    caller: str
    warnings: tuple[str, ...]
    attempt: int
    retry_at: int
    epoch: int


@dataclass(frozen=True, slots=True)
class RunView(RunSummary):
    """All of a run."""

    output: Json = None
    steps: tuple[StepView, ...] = field(default=())

    @property
    def workers(self) -> list[str]:
        """The names of the workers (workers_name) with which a run is, or one of its open steps; none when it ended."""
        if self.status != RunStatus.RUNNING:
            return []
        queues = (queue_of(step.kind, step.detail) for step in self.steps if step.status in ("waiting", "retrying"))
        return list(dict.fromkeys(workers_name(self.app, queue) for queue in ("", *queues)))


def json_of(text: str | None) -> Json:
    """Return what a column of JSON holds, None for an empty one."""
    return None if text is None else load_json(text.encode(), own=True)


def summary_of(row: Sequence[Any]) -> dict[str, Any]:
    """Return the fields of a summary from a row of RUN_COLUMNS."""
    values = dict(zip(_NAMES, row, strict=False))
    values |= {name: json_of(values[name]) for name in ("events", "error")}
    listed = json_of(values["warnings"])
    values["warnings"] = tuple(map(str, listed)) if isinstance(listed, list) else ()
    return values


def step_of(row: Sequence[Any]) -> StepView:
    """Return a step from its row."""
    (_, step, id, kind, status, attempts, first, started, ended, until, detail, output, error, _) = row
    return StepView(
        step, id, kind, status, attempts, first, started, ended, until, detail, json_of(output), json_of(error)
    )
