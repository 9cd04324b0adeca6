"""The records of `inbox`: what workers report, what callers ask, and what shards tell each other."""

import msgspec

from stepstream.contract.codec import EMPTY_OBJECT, NULL, Raw, TypedRecord
from stepstream.contract.events import EventRecord
from stepstream.contract.lookback import LookBackContinued, LookBackEnded
from stepstream.contract.outcomes import ErrorInfo, Outcome


class Caller(msgspec.Struct, frozen=True):
    """The step of a run that waits for an answer."""

    run_id: str
    step: str


class RunRequested(TypedRecord, frozen=True, tag="run.requested"):
    """Start a run at `start_at` (Unix ms, 0: at once). A `deduplicated` one starts only if none did in the last 24 h.

    `quiet` runs, those started by the engine's own events and what they invoke, emit no such events when they end.
    """

    run_id: str
    function: str
    app: str
    events: tuple[EventRecord, ...]
    start_at: int = 0
    deduplicated: bool = False
    on_failure: str = ""
    caller: Caller | None = None
    quiet: bool = False


class EventRouted(TypedRecord, frozen=True, tag="event.routed"):
    """An event on its way to the shard that owns its name; `arrived_at` is the log's time of its arrival (Unix ms)."""

    event: EventRecord
    arrived_at: int = 0


class EventForwarded(TypedRecord, frozen=True, tag="event.forwarded"):
    """An event on its way to the shard that owns the waits for `name` with `path` equal to `value`."""

    event: EventRecord
    path: str
    value: str
    arrived_at: int = 0


class MatchContinued(TypedRecord, frozen=True, tag="match.continued"):
    """The next part of the waits for `event` with `path` equal to `value` is due to be held against queued events."""

    event: str
    path: str
    value: str


class Predicate(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an event must fulfil: all equalities of (path, index key), and the residual CEL under its bindings."""

    equalities: tuple[tuple[str, str], ...] = ()
    residual: str = ""
    bindings: Raw = EMPTY_OBJECT


class WaitOpened(TypedRecord, frozen=True, tag="wait.opened"):
    """A run's step waits for an event; travels by the shard of the name to that of the first equality.

    With `lookback_from` (Unix ms, 0: not at all) an event kept since then ends it at once, but never `trigger_id`.
    """

    run_id: str
    step: str
    event: str
    predicate: Predicate
    expires_at: int
    lookback_from: int = 0
    trigger_id: str = ""
    placed: bool = False


class WaitClosed(TypedRecord, frozen=True, tag="wait.closed"):
    """A step waits no longer: its time ran out, it was cancelled, or its run ended; it may have been `looking` back."""

    run_id: str
    step: str
    event: str
    path: str = ""
    value: str = ""
    placed: bool = False
    looking: bool = False


class EventMatched(TypedRecord, frozen=True, tag="event.matched"):
    """A wait met its event, which came at `arrived_at` (Unix ms, 0: before the wait)."""

    run_id: str
    step: str
    event: EventRecord
    arrived_at: int = 0


class SignalWaitOpened(TypedRecord, frozen=True, tag="signal.opened"):
    """A run's step waits for a signal; `replace` takes the name over from a waiter that is there already."""

    run_id: str
    step: str
    signal: str
    expires_at: int
    replace: bool = False


class SignalWaitClosed(TypedRecord, frozen=True, tag="signal.closed"):
    """A step waits no longer for a signal."""

    run_id: str
    step: str
    signal: str


class SignalSent(TypedRecord, frozen=True, tag="signal.sent"):
    """Somebody sends a signal; `reply_to` names who wants to know whether anyone waited."""

    signal: str
    data: Raw = NULL
    reply_to: str = ""


class StepResolved(TypedRecord, frozen=True, tag="step.resolved"):
    """The result of a step that another shard found: a signal, a refusal, or an invoked run's end."""

    run_id: str
    step: str
    outcome: Outcome


class CancelRequested(TypedRecord, frozen=True, tag="run.cancel"):
    """Somebody cancels a run; `reply_to` names who wants to know whether it was there."""

    run_id: str
    reply_to: str = ""


class RunClaimed(TypedRecord, frozen=True, tag="run.claimed"):
    """A worker of `app` without the run in its cache asks for all of it; `claim` is echoed in the answer."""

    run_id: str
    claim: str
    app: str


class StepClaimed(TypedRecord, frozen=True, tag="step.claimed"):
    """A worker of a queue asks whether a step that was lent is still to be run; `claim` is echoed in the answer."""

    run_id: str
    step: str
    claim: str
    app: str
    queue: str


class RunLeased(TypedRecord, frozen=True, tag="run.reserved"):
    """A worker that leaves its group still has steps of a run at work: for `for_ms` no claim of it is answered.

    With 0 the worker lets go of the run.
    """

    run_id: str
    epoch: int
    for_ms: int = 0


class StepLeased(TypedRecord, frozen=True, tag="step.reserved"):
    """A worker of a queue that leaves its group still has a step at work: for `for_ms` no claim of it is answered.

    With 0 the worker lets go of it. `attempt`, `queue` and `claim` are as in the report that is to come.
    """

    run_id: str
    step: str
    attempt: int
    queue: str
    claim: str
    for_ms: int


class RunPostponed(TypedRecord, frozen=True, tag="run.postponed"):
    """A worker has not the code of a run's function, as during a roll-out: it is to be tried again in `for_ms`.

    That is no attempt of the code. `reason` becomes a warning of the run.
    """

    run_id: str
    epoch: int
    reason: str
    for_ms: int


class StepPostponed(TypedRecord, frozen=True, tag="step.postponed"):
    """The same of a step that was lent; `attempt`, `queue` and `claim` are as in the report that is not to come."""

    run_id: str
    step: str
    attempt: int
    queue: str
    claim: str
    reason: str
    for_ms: int


class StepReported(TypedRecord, frozen=True, tag="step.reported"):
    """A worker ran a step's body to its end. `seen` counts the engine's results that the code had got before.

    With `queue` it was lent to the workers of that queue, whoever holds the run: that of the latest `claim` counts.
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


class StepFailed(TypedRecord, frozen=True, tag="step.failed"):
    """An attempt failed, one is due in `retry_ms`; `group` is as in StepPlan, `queue`, `claim` as in StepReported."""

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


class RunPlan(TypedRecord, frozen=True, tag="run"):
    """Have the workers of a queue run the body of a step."""

    step: str
    id: str
    queue: str
    group: str = ""


class SleepPlan(TypedRecord, frozen=True, tag="sleep"):
    """Sleep until `until` (Unix ms)."""

    step: str
    id: str
    until: int
    group: str = ""


class WaitPlan(TypedRecord, frozen=True, tag="wait"):
    """Wait for an event; `match` is a path, `condition` a CEL expression, at most one of them."""

    step: str
    id: str
    event: str
    timeout_ms: int
    match: str = ""
    condition: str = ""
    lookback_ms: int = 0
    group: str = ""


class SignalPlan(TypedRecord, frozen=True, tag="signal"):
    """Wait for a signal."""

    step: str
    id: str
    signal: str
    timeout_ms: int
    replace: bool = False
    group: str = ""


class SendPlan(TypedRecord, frozen=True, tag="send"):
    """Send events."""

    step: str
    id: str
    events: tuple[EventRecord, ...]
    group: str = ""


class InvokePlan(TypedRecord, frozen=True, tag="invoke"):
    """Run another function and wait for its result."""

    step: str
    id: str
    function: str
    timeout_ms: int
    data: Raw = EMPTY_OBJECT
    group: str = ""


StepPlan = RunPlan | SleepPlan | WaitPlan | SignalPlan | SendPlan | InvokePlan


class StepsPlanned(TypedRecord, frozen=True, tag="steps.planned"):
    """All that the code asked for in one turn. Steps of one `group` wake the run once, when the last has its result.

    `cancelled` are steps that lost a race. With `acknowledge` the worker holds its step bodies back until it is told
    that the waits stand. With `wake` it wants a `RunResumed` in any case: code that rested goes on by itself, and as
    long as it does, the log is to have a command for it. `ungrouped` are steps planned before as members of a group,
    for which the code waits by themselves now.
    """

    run_id: str
    epoch: int
    plans: tuple[StepPlan, ...] = ()
    cancelled: tuple[str, ...] = ()
    acknowledge: bool = False
    wake: bool = False
    ungrouped: tuple[str, ...] = ()


class RunWarned(TypedRecord, frozen=True, tag="run.warned"):
    """The worker saw that a run's code and its history disagree; the run goes on."""

    run_id: str
    epoch: int
    warning: str


class RunReturned(TypedRecord, frozen=True, tag="run.returned"):
    """The function returned `output`."""

    run_id: str
    epoch: int
    output: Raw = NULL


class RunFailed(TypedRecord, frozen=True, tag="run.failed"):
    """The code between steps raised; with `retry_ms` (0 or more) it is tried again, else the run has failed."""

    run_id: str
    epoch: int
    error: ErrorInfo
    attempt: int
    retry_ms: int = -1


class Answered(msgspec.Struct, frozen=True):
    """The answer to whoever asked under the name `to`; it is sent after the commit, once, and may be lost."""

    to: str
    status: str


WorkerReport = StepReported | StepFailed | StepsPlanned | RunWarned | RunReturned | RunFailed | RunLeased | RunPostponed
InboxRecord = (
    RunRequested
    | EventRouted
    | EventForwarded
    | MatchContinued
    | LookBackContinued
    | LookBackEnded
    | WaitOpened
    | WaitClosed
    | EventMatched
    | SignalWaitOpened
    | SignalWaitClosed
    | SignalSent
    | StepResolved
    | CancelRequested
    | RunClaimed
    | StepClaimed
    | RunLeased
    | StepLeased
    | RunPostponed
    | StepPostponed
    | StepReported
    | StepFailed
    | StepsPlanned
    | RunWarned
    | RunReturned
    | RunFailed
)
decode_answer = msgspec.json.Decoder(Answered).decode
decode_inbox = msgspec.json.Decoder(InboxRecord).decode
