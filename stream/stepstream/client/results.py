"""What a client gets from the HTTP API: runs with their steps, errors and the reasons why they wait."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stepstream.contract.kinds import ENDED_RUN_STATUSES


@dataclass(frozen=True, slots=True)
class RunError:
    """An error of a run, a step or an attempt: class, message, traceback and stable code, each "" if unknown.

    `raw` is the error object of an SDK of another language.
    """

    name: str
    message: str = ""
    stack: str = ""
    code: str = ""
    raw: Any = None


@dataclass(frozen=True, slots=True)
class RunAttempt:
    """An attempt that failed and was retried, counted from 0; times in Unix ms, 0 if unknown."""

    attempt: int
    at: int
    name: str
    message: str
    retry_at: int
    started_at: int = 0
    place: str = ""
    stack: str = ""


@dataclass(frozen=True, slots=True)
class RunPassedLimit:
    """A limit that was passed: at once, or from its `place` in the queue on after `waited_ms`."""

    limit: str
    key: str = ""
    waited_ms: int = 0
    place: int = 0
    units: int | None = None
    used: int | None = None


@dataclass(frozen=True, slots=True)
class RunLimitDecision:
    """The limits that a run, or an attempt of a step, has `passed`, or that it returned its permits while it waits."""

    at: int
    passed: tuple[RunPassedLimit, ...] = ()
    returned: bool = False
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class RunStep:
    """A step of a run: its hash `step`, its `id`, its kind and status; times in Unix ms, 0 if unknown."""

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
    output: Any
    error: RunError | None
    copied: bool
    failures: tuple[RunAttempt, ...] = ()
    progress: Any = None
    heartbeat_at: int = 0
    ended_by: str = ""
    usage: Mapping[str, Any] | None = None
    limits: tuple[RunLimitDecision, ...] = ()


@dataclass(frozen=True, slots=True)
class RunReason:
    """A reason why an open run does not continue, as a sentence, with a remedy if a person must do something."""

    code: str
    text: str
    step: str = ""
    since: int = 0
    until: int = 0
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """A run; times in Unix ms, 0 if unknown.

    Attributes:
        run_id: Its id.
        function: The id of its function.
        app: The app of its function.
        status: `scheduled`, `queued`, `running`, `completed`, `failed`, `cancelled` or `skipped`.
        output: What the function returned.
        error: Why it failed, was cancelled or was skipped.
        why: Why it does not continue, if it is open.
        steps: Its steps.
        events: The events that started it, as JSON objects; lists have the first ten without data.
        event_count: How many events started it.
        origin: The run that it repeats, "" if none.
        attributes: By which people find it.
        paused: Since and until when it is paused, who paused it (`by`) and why; None if it is not.
        waits: What it sleeps or waits for; None if it does not.
        usage: How many tokens of language models it used; None if it asked none.
        state: What its code has set in `ctx.state`, by name.
        continuation: The runs before and after it, if it continued as new.
        failures: The attempts of the code between steps that failed and were retried.
        limits: Which limits it has passed, and when it returned its permits.

    Runs of a list have no `output`, `steps`, `why`, `continuation`, `state`, `failures` and `limits`. The other fields
    are those of [`GET /v1/runs/{id}`](http.md).
    """

    run_id: str
    function: str
    app: str
    status: str
    accepted_at: int = 0
    started_at: int = 0
    ended_at: int = 0
    events: tuple[Mapping[str, Any], ...] = ()
    error: RunError | None = None
    caller: str = ""
    warnings: tuple[str, ...] = ()
    attempt: int = 0
    retry_at: int = 0
    epoch: int = 0
    origin: str = ""
    attributes: Mapping[str, Any] | None = None
    error_group: str = ""
    paused: Mapping[str, Any] | None = None
    waits: Mapping[str, Any] | None = None
    event_count: int = 0
    output: Any = None
    steps: tuple[RunStep, ...] = ()
    rerun: Mapping[str, Any] | None = None
    reruns: tuple[str, ...] = ()
    deadline: Mapping[str, Any] | None = None
    continuation: Mapping[str, Any] | None = None
    workers: Mapping[str, Any] | None = None
    usage: Mapping[str, Any] | None = None
    state: Mapping[str, Any] | None = None
    why: tuple[RunReason, ...] = ()
    failures: tuple[RunAttempt, ...] = ()
    limits: tuple[RunLimitDecision, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether it has completed, failed, or was cancelled or skipped."""
        return self.status in ENDED_RUN_STATUSES

    @property
    def successor(self) -> str:
        """The run as which it continued, "" if none."""
        return str((self.continuation or {}).get("to") or "")


@dataclass(frozen=True, slots=True)
class RunPage:
    """A page of a list of runs, and the `next` page, "" after the last one."""

    runs: tuple[Run, ...]
    next: str = ""


@dataclass(frozen=True, slots=True)
class FunctionInfo:
    """A function that an app registered.

    Attributes:
        id: Its id.
        registration: What the app registered, such as its triggers and its `input` schema; None if only runs are known.
        counts: How many runs it has, by status.
        rate: How many of them ended and failed since a time (Unix ms).
        cron_times: The next times (Unix ms) of its cron triggers.
    """

    id: str
    registration: Mapping[str, Any] | None
    counts: Mapping[str, int]
    rate: Mapping[str, int]
    cron_times: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class FunctionPage:
    """A page of a list of functions, and the `next` page, "" after the last one."""

    functions: tuple[FunctionInfo, ...]
    next: str = ""
