"""The records of `inbox`: reports of workers, requests of callers, and messages between shards."""

import msgspec

from stepstream.contract.attributes import AttributeChanges, Attributes
from stepstream.contract.codec import NULL, Raw, TypedRecord
from stepstream.contract.continuations import Continuation
from stepstream.contract.events import EventRecord
from stepstream.contract.functions import CancelTrigger, RunTimeouts
from stepstream.contract.gates import Gate, GateRecord, RunParked
from stepstream.contract.ids import StepRef
from stepstream.contract.matching import MatchingRecord
from stepstream.contract.model_usage import ModelUsage
from stepstream.contract.operators.bulk import BulkRecord
from stepstream.contract.operators.control import (
    BulkRef,
    ControlRequest,
    PauseRequested,
    RerunRequested,
    ScopeRecord,
    UnpauseRequested,
)
from stepstream.contract.operators.limit_settings import LimitSettingRecord
from stepstream.contract.operators.limit_views import LimitQuestion
from stepstream.contract.outcomes import ErrorInfo, Outcome
from stepstream.contract.plans import StepPlan
from stepstream.contract.progress import ProgressRecord


class RunRequested(TypedRecord, frozen=True, tag="run.requested"):
    """Start a run at `start_at` (Unix ms, 0: now). A `deduplicated` one starts only if none did in the last 24 h.

    The 24 hours count from event to event: `arrived_at` is when the log took this one (Unix ms, 0: now).
    `caller` is the step that waits for the result, and `callers` are those that wait for the result of a batch as well.
    With `suppress_end_events` the run emits no event when it ends: the engine's own events started it, or a run that
    they started invoked it. `chain` counts the runs that precede it in a chain of runs that started one another.
    `attributes` are those with which the run begins. The events of `cancel_on` cancel it, and so do `timeouts`. It
    passes its `gates`, one after the other, before its code starts, and each attempt of a step passes the `step_gates`.
    The successor of a run that continued as new `continues` that run. With `ends_with_parent` the end of its caller
    cancels it. A `signal` may have started it: then the shard of the signal is informed of its end.
    """

    run_id: str
    function: str
    app: str
    events: tuple[EventRecord, ...]
    start_at: int = 0
    deduplicated: bool = False
    on_failure: str = ""
    caller: StepRef | None = None
    suppress_end_events: bool = False
    chain: int = 0
    arrived_at: int = 0
    attributes: Attributes = msgspec.field(default_factory=dict)
    cancel_on: tuple[CancelTrigger, ...] = ()
    timeouts: RunTimeouts | None = None
    gates: tuple[Gate, ...] = ()
    continues: Continuation | None = None
    ends_with_parent: bool = False
    signal: str = ""
    step_gates: tuple[Gate, ...] = ()
    callers: tuple[StepRef, ...] = ()


class TriggersContinued(TypedRecord, frozen=True, tag="triggers.continued"):
    """The next functions that an event may trigger are due: those whose ids follow `after`.

    A run that it starts is `deduplicated`, and has its `chain` and `arrived_at`, as in RunRequested.
    """

    event: EventRecord
    after: str = ""
    deduplicated: bool = False
    chain: int = 0
    arrived_at: int = 0


class SignalSent(TypedRecord, frozen=True, tag="signal.sent"):
    """A caller (`by`) sends a signal; the process named `reply_to` expects an answer: whether a run waited for it."""

    signal: str
    data: Raw = NULL
    reply_to: str = ""
    by: str = ""


class SignalWithStart(TypedRecord, frozen=True, tag="signal.with_start"):
    """A caller sends a signal to the run that waits for it, or starts `function` by `event` with it.

    The process named `reply_to` expects an answer: which run has the signal, and whether it was started. `chain` counts
    the runs that precede that one in a chain of runs that started one another. `by` is that of SignalSent.
    """

    signal: str
    data: Raw
    function: str
    event: EventRecord
    reply_to: str = ""
    chain: int = 0
    by: str = ""


class SignalRunEnded(TypedRecord, frozen=True, tag="signal.run_ended"):
    """A run that a signal started has ended, or continued as new as the run `successor`."""

    signal: str
    run_id: str
    successor: str = ""


class CancelRequested(TypedRecord, frozen=True, tag="run.cancel_requested"):
    """A caller cancels a run; the process named `reply_to` expects an answer: whether the run was open.

    `by` says who asked for it, and `why` is the reason that was given. The end of the run `parent`, which invoked this
    one, cancels it without a caller. With `children` the runs that it invoked and still waits for are cancelled too.
    """

    run_id: str
    reply_to: str = ""
    by: str = ""
    why: str = ""
    bulk: BulkRef | None = None
    parent: str = ""
    children: bool = False


class StepResolved(TypedRecord, frozen=True, tag="step.resolved"):
    """The result of a step that another shard found: a signal, a refusal, or the end of an invoked run.

    `sent` is the signal whose data it is, if one that may start a run: it is sent again if the step does not take it.
    `by` says who sent the signal.
    """

    run_id: str
    step: str
    outcome: Outcome
    sent: SignalWithStart | None = None
    by: str = ""


class AnswersContinued(TypedRecord, frozen=True, tag="answers.continued"):
    """The next of the steps that wait for the run of a batch, which has ended, get its `outcome`."""

    run_id: str
    callers: tuple[StepRef, ...]
    outcome: Outcome


class ChildContinued(TypedRecord, frozen=True, tag="child.continued"):
    """A run that a step invoked continued as new: the step now waits for the run `child`.

    With `ends_with_parent` that one is cancelled if the run of the step has ended.
    """

    run_id: str
    step: str
    child: str
    ends_with_parent: bool = False


class RunClaimed(TypedRecord, frozen=True, tag="run.claimed"):
    """A worker of `app` that does not have the run in its cache requests all of it; the answer repeats `claim`."""

    run_id: str
    claim: str
    app: str


class StepClaimed(TypedRecord, frozen=True, tag="step.claimed"):
    """A worker of a queue asks whether it should still run a dispatched step; the answer repeats `claim`."""

    run_id: str
    step: str
    claim: str
    app: str
    queue: str


class RunLeased(TypedRecord, frozen=True, tag="run.leased"):
    """A worker that leaves its group still runs steps of a run: for `for_ms` no claim of the run is answered.

    0 ends the lease.
    """

    run_id: str
    epoch: int
    for_ms: int = 0


class StepLeased(TypedRecord, frozen=True, tag="step.leased"):
    """A worker of a queue that leaves its group still runs a step: for `for_ms` no claim of the step is answered.

    0 ends the lease. `attempt`, `queue` and `claim` are those of the report that will follow.
    """

    run_id: str
    step: str
    attempt: int
    queue: str
    claim: str
    for_ms: int


class RunPostponed(TypedRecord, frozen=True, tag="run.postponed"):
    """A worker has no code for a run's function, or code that does not fit the run's history: try again in `for_ms`.

    This is not an attempt. `reason` becomes a warning of the run.
    """

    run_id: str
    epoch: int
    reason: str
    for_ms: int


class StepPostponed(TypedRecord, frozen=True, tag="step.postponed"):
    """A worker of a queue has no code that fits a dispatched step: dispatch it again in `for_ms`.

    This is not an attempt. `attempt`, `queue` and `claim` identify the dispatch. `reason` becomes a warning of the run.
    """

    run_id: str
    step: str
    attempt: int
    queue: str
    claim: str
    reason: str
    for_ms: int


class StepReported(TypedRecord, frozen=True, tag="step.reported"):
    """A worker ran the body of a step to its end. `seen` counts the engine's results that the code had received before.

    `fingerprint` is like that of RunPlan. With a `queue` the step was dispatched to it; whichever worker holds the run,
    the report of the latest `claim` counts. The body says that it has `used` so many units of the limits of its step,
    and what its `usage` of a model was.
    """

    run_id: str
    epoch: int
    step: str
    id: str
    outcome: Outcome
    attempt: int = 0
    seen: int = 0
    started_at: int = 0
    queue: str = ""
    claim: str = ""
    fingerprint: int = 0
    used: int | None = None
    usage: ModelUsage | None = None


class StepFailed(TypedRecord, frozen=True, tag="step.failed"):
    """An attempt of a step failed, the next is due in `retry_ms`.

    `group` is that of the plans, `queue`, `claim`, `fingerprint`, `used` and `usage` are those of StepReported.
    `progress` is what the last heartbeat of the body said, in this attempt or before, null if there is none.
    """

    run_id: str
    epoch: int
    step: str
    id: str
    attempt: int
    retry_ms: int
    error: ErrorInfo
    group: str = ""
    started_at: int = 0
    queue: str = ""
    claim: str = ""
    fingerprint: int = 0
    used: int | None = None
    progress: Raw = NULL
    usage: ModelUsage | None = None


class StepsPlanned(TypedRecord, frozen=True, tag="steps.planned"):
    """All steps that the code requested in one activation. Those of one `group` wake the run once, by the last result.

    `cancelled` are steps that lost a race. With `acknowledge` the worker holds step bodies back until the engine
    confirms that the waits are registered. With `wake` it needs a `RunResumed` in any case: code that was parked
    continues by itself, and while it does, a command in the log must be able to restart it. `ungrouped` are steps that
    were planned as members of a group and that the code now awaits one by one.
    """

    run_id: str
    epoch: int
    plans: tuple[StepPlan, ...] = ()
    cancelled: tuple[str, ...] = ()
    acknowledge: bool = False
    wake: bool = False
    ungrouped: tuple[str, ...] = ()


class ExecutionStarted(TypedRecord, frozen=True, tag="run.execution_started"):
    """A worker executes the first code of a run that has timeouts."""

    run_id: str
    epoch: int


class WarningReported(TypedRecord, frozen=True, tag="run.warning_reported"):
    """The worker found that a run's code and its history disagree; the run continues."""

    run_id: str
    epoch: int
    warning: str


class AttributesSet(TypedRecord, frozen=True, tag="run.attributes_set"):
    """The code of a run set attributes; null removes one. The same values again change nothing."""

    run_id: str
    epoch: int
    attributes: AttributeChanges


class RunReturned(TypedRecord, frozen=True, tag="run.returned"):
    """The function returned `output`."""

    run_id: str
    epoch: int
    output: Raw = NULL


class RunContinued(TypedRecord, frozen=True, tag="run.continued"):
    """The code continues as a new run, whose event has this `data`."""

    run_id: str
    epoch: int
    data: Raw


class RunFailed(TypedRecord, frozen=True, tag="run.failed"):
    """The code between steps raised; it is retried in `retry_ms`, or with -1 ends the run. `raw`: see Failure.

    The error is `non_retriable` if it says so itself, and not because the code has no attempts left.
    """

    run_id: str
    epoch: int
    error: ErrorInfo
    attempt: int
    retry_ms: int = -1
    raw: Raw = NULL
    non_retriable: bool = False


class CommandsLost(TypedRecord, frozen=True, tag="commands.lost"):
    """The position of the workers of this name in their commands is lost: some of the commands may be lost too.

    Its partition is that of the commands. The shard sends again what these workers need to continue the runs after the
    run `after`.
    """

    workers: str
    after: str = ""


WorkerReport = (
    StepReported
    | StepFailed
    | ProgressRecord
    | StepsPlanned
    | ExecutionStarted
    | WarningReported
    | AttributesSet
    | RunReturned
    | RunContinued
    | RunFailed
    | RunLeased
    | RunPostponed
    | RunParked
)
QueueReport = StepLeased | StepPostponed
Claim = RunClaimed | StepClaimed
CallerRequest = SignalSent | SignalWithStart | CancelRequested | ControlRequest
# What a bulk operation may send for a run, and then counts the outcome of.
RunOperation = CancelRequested | RerunRequested | PauseRequested | UnpauseRequested
InboxRecord = (
    RunRequested
    | TriggersContinued
    | StepResolved
    | AnswersContinued
    | SignalRunEnded
    | ChildContinued
    | MatchingRecord
    | WorkerReport
    | QueueReport
    | Claim
    | CallerRequest
    | BulkRecord
    | CommandsLost
    | ScopeRecord
    | GateRecord
    | LimitQuestion
    | LimitSettingRecord
)
decode_inbox = msgspec.json.Decoder(InboxRecord).decode
