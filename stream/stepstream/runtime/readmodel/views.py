"""Runs and steps as the read model returns them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from stepstream.contract.codec import Json, load_json
from stepstream.contract.errors import StepstreamError
from stepstream.contract.kinds import NOT_STARTED, OPEN_STEP_STATUSES, RunStatus, StepKind
from stepstream.contract.model_usage import ModelUsage
from stepstream.contract.operators.approvals import approval_signal
from stepstream.contract.operators.run_requests import request_signal
from stepstream.contract.text.names import workers_name
from stepstream.runtime.readmodel.activity import ACTIVITY_FIELDS, Activity, activities
from stepstream.runtime.readmodel.failed_attempts import FailedAttempt, read_attempts
from stepstream.runtime.readmodel.passed_limits import LimitDecision, read_decisions
from stepstream.runtime.readmodel.usage import UsageView, usage_of

RUN_COLUMNS = (
    "run_id, function, app, status, accepted_at, started_at, ended_at, events, error, caller, warnings, attempt, "
    "retry_at, epoch, origin, attributes, error_group, paused, waits"
)
# A run that a batch of events started has up to 1,000.
LISTED_EVENTS_MAX = 10
_NAMES = RUN_COLUMNS.split(", ")
_split = msgspec.json.Decoder(list[msgspec.Raw]).decode


class UnreadableRuns(StepstreamError):
    """The file of the read model is corrupt, or is not a read model."""

    code = "unreadable-runs"


@dataclass(frozen=True, slots=True)
class StepView:
    """A step of a run: `kind` is a StepKind, `status` a StepStatus; times in Unix ms.

    The result of a `copied` step is that of the run that this one reruns. `failures` are attempts that were retried.
    `progress` is what the last heartbeat of its body said, None if there is none; `heartbeat_at` is when it was
    reported. `ended_by` is who sent the signal that ended it, "" if unknown. `usage` is what its attempts used of a
    model, None for a step that used none. `limits` has the limits that its attempts have passed.
    """

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
    copied: bool
    failures: tuple[FailedAttempt, ...] = ()
    progress: Json = None
    heartbeat_at: int = 0
    ended_by: str = ""
    usage: UsageView | None = None
    limits: tuple[LimitDecision, ...] = ()


def queue_of(kind: str, detail: str) -> str:
    """Return the queue of a step's body, or "" if the app's own workers run it."""
    return detail.removeprefix("queue ") if kind == StepKind.RUN else ""


def asked_of(run_id: str, step: str, detail: str) -> str:
    """Return what a step waits for whose signal has a name of the engine: "approval" or "request"; else ""."""
    own = {approval_signal(run_id, step): "approval", request_signal(run_id, step): "request"}
    return own.get(detail, "")


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run as in lists: `status` is a RunStatus; times in Unix ms, 0 if unknown. `origin` is the run that it reruns.

    Large values are missing: the data of `events`, of which lists have the first LISTED_EVENTS_MAX of `event_count`;
    the stack of `error`; and the fields that only RunView has.
    `attributes` is an object. `error_group` is the id of the group of its error, empty without an error. `paused` says
    since and until when (0: until an operator resumes it), who paused it and why; None if the run is not paused.
    `waits` says what a running run does whose code does not run: its `state` (sleeping, waiting, retrying), the id of
    the `step`, the `name` of what it waits for, and `until` when; None if it does not wait. Those of a step that is
    retried have the `error` of its last attempt.
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
    origin: str
    attributes: Json
    error_group: str
    paused: Json
    waits: Json
    event_count: int = 0

    @property
    def last_error(self) -> Mapping[str, Json]:
        """The error of the run, or of the last attempt of the step that it retries; empty without one."""
        waits = self.waits if isinstance(self.waits, dict) else {}
        found = self.error or waits.get("error")
        return found if isinstance(found, dict) else {}

    @property
    def has_started(self) -> bool:
        """Whether its code has started, or the run has ended."""
        return self.status not in NOT_STARTED

    def activities(self, now_ms: int) -> Sequence[Activity]:
        """Return what the run does, of which `running` says little."""
        return activities({name: getattr(self, name) for name in ACTIVITY_FIELDS}, now_ms)


@dataclass(frozen=True, slots=True)
class RunView(RunSummary):
    """A run with its output, its steps, why it reruns another run, and its reruns.

    `deadline` says when a timeout cancels it: at what time, by which timeout (start or finish), and whether the run has
    expired, so that only bodies that are running may end; None if no timeout does. `continuation` links runs that
    continue as new: the run that this one continues (`from`) and its `number` in the series, and its successor (`to`);
    None for any other run. `usage` is what its steps used of models, None if they used none; the results that it took
    over from another run cost it nothing. `state` has the values that its code has set in `ctx.state`, by name.
    `failures` are the attempts of the code between steps that failed and were retried, in order of time. `limits` says
    which limits it has passed, and when it returned its permits while it waited; the end of a run returns all of them.
    """

    output: Json = None
    steps: tuple[StepView, ...] = field(default=())
    rerun: Json = None
    reruns: tuple[str, ...] = ()
    deadline: Json = None
    continuation: Json = None
    usage: UsageView | None = None
    state: Json = field(default_factory=dict)
    failures: tuple[FailedAttempt, ...] = ()
    limits: tuple[LimitDecision, ...] = ()

    @property
    def workers(self) -> list[str]:
        """The names (workers_name) of the workers that have the run or one of its open steps; none if it ended."""
        if self.status != RunStatus.RUNNING:
            return []
        queues = (queue_of(step.kind, step.detail) for step in self.steps if step.status in OPEN_STEP_STATUSES)
        return list(dict.fromkeys(workers_name(self.app, queue) for queue in ("", *queues)))


def json_of(text: str | None) -> Json:
    """Return the value of a JSON column, None if it is empty."""
    return None if text is None else load_json(text.encode(), own=True)


def summary_of(row: Sequence[Any], events_max: int | None = None) -> dict[str, Any]:
    """Return the fields of a summary from a row of RUN_COLUMNS, with at most `events_max` of its events."""
    values = dict(zip(_NAMES, row, strict=False))
    events = _split(values["events"] or "[]")
    values["event_count"], values["events"] = len(events), [load_json(event, own=True) for event in events[:events_max]]
    values |= {name: json_of(values[name]) for name in ("error", "attributes", "paused", "waits")}
    values["error_group"] = values["error_group"] or ""
    listed = json_of(values["warnings"])
    values["warnings"] = tuple(map(str, listed)) if isinstance(listed, list) else ()
    return values


def step_of(row: Sequence[Any]) -> StepView:
    """Return a step from its row."""
    (_, step, id, kind, status, attempts, first, started, ended, until, detail, output, error, *rest) = row
    copied, failures, progress, heartbeat_at, by, limits = rest[-10:-4]
    results = (json_of(output), json_of(error), bool(copied), read_attempts(failures))
    more = (json_of(progress), heartbeat_at, by, usage_of(ModelUsage(*rest[-4:])))
    known = (step, id, kind, status, attempts, first, started, ended, until, detail)
    return StepView(*known, *results, *more, limits=read_decisions(limits))
