"""The rows of a shard's tables."""

from enum import StrEnum

import msgspec

from stepstream.contract.attributes import Attributes
from stepstream.contract.codec import NULL, Raw
from stepstream.contract.commands import Memo
from stepstream.contract.events import EventRecord
from stepstream.contract.functions import CronTrigger, FunctionRegistered, RunTimeouts
from stepstream.contract.gates import Gate, PassedGate
from stepstream.contract.ids import Bucket, StepRef
from stepstream.contract.inbox import Claim, SignalWithStart
from stepstream.contract.kinds import StepKind
from stepstream.contract.matching import Predicate
from stepstream.contract.operators.bulk import BulkChanged, BulkItem
from stepstream.contract.operators.control import Pause
from stepstream.contract.operators.limit_settings import LimitSetting
from stepstream.engine.state.gate_rows import GateRun, GateShare, GateState, GateTag, GateWaiter
from stepstream.engine.state.kept_rows import (
    IndexedEvent,
    KeptEvent,
    KeptHead,
    KeptPaths,
    KeptPlace,
    LookBack,
    LookbackWindows,
)
from stepstream.engine.state.scope_rows import ScopeChanges, ScopePause
from stepstream.engine.state.value_rows import RunValues


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run that has not ended.

    `seen` counts the results that the engine gave and `own` those that workers made, which orders the memos. `attempt`
    counts failures of the code between steps since the last result; `chain` counts the runs that precede this one in a
    chain of runs that started one another; `due` is when the code is retried or the run starts (Unix ms, 0: now).
    `claim` is the latest that was answered, so that a repeat changes nothing. `warnings` say where the code and the
    history disagreed. `origin` is the run that this one reruns. People find it by its `attributes`. While it is
    `paused` its workers get no code to run, and its timers that are due are no longer armed. It is `held` if a pause of
    its function has kept a command from its worker. A run with `timeouts` has a timer that fires at `deadline` (Unix
    ms, 0: it has none). It has `begun` when its first code was executed. It is `expired` if it has exceeded its time,
    and then only waits for bodies that are running. `children` counts the open runs that are cancelled when it ends. It
    has `opened_steps` once a step of it had no result: a run that never did has no rows of open steps, of groups and of
    leases of steps, for which its end would have to look. It passes its `gates` in order: it has `asked` for so many of
    them, and so many were `granted`. It waits for them since `queued_at` (Unix ms). Its steps pass the `step_gates`. It
    is the successor of a run that continued as new, and so many have gone before it (`continued`). With
    `ends_with_parent` the end of its caller cancels it. A `signal` may have started it. If its code has set a state, it
    `has_values`. It is `parked` while it has returned its permits of limits on work. `news` counts the RunResumed
    commands of this epoch, if the run has such limits. It was parked at `parked_at` (Unix ms). It has `passed` these
    gates since its code executed; those that RunAdmitted has recorded are not among them.
    """

    run_id: str
    function: str
    app: str
    started_at: int
    epoch: int = 1
    claim: str = ""
    attempt: int = 0
    due: int = 0
    steps: int = 0
    memo_bytes: int = 0
    seen: int = 0
    own: int = 0
    history_seq: int = 0
    on_failure: str = ""
    caller: StepRef | None = None
    suppress_end_events: bool = False
    warnings: tuple[str, ...] = ()
    chain: int = 0
    origin: str = ""
    attributes: Attributes = {}
    paused: Pause | None = None
    held: bool = False
    timeouts: RunTimeouts | None = None
    deadline: int = 0
    begun: bool = False
    expired: bool = False
    children: int = 0
    opened_steps: bool = False
    gates: tuple[Gate, ...] = ()
    asked: int = 0
    granted: int = 0
    queued_at: int = 0
    continued: int = 0
    ends_with_parent: bool = False
    signal: str = ""
    step_gates: tuple[Gate, ...] = ()
    has_values: bool = False
    parked: bool = False
    news: int = 0
    parked_at: int = 0
    passed: tuple[PassedGate, ...] = ()

    @property
    def queued(self) -> bool:
        """Whether it has not passed all its gates."""
        return self.granted < len(self.gates)


class Child(msgspec.Struct, frozen=True):
    """An open run that a step of this one invoked, and that is cancelled when this one ends."""

    run_id: str


class CancelWait(msgspec.Struct, frozen=True, omit_defaults=True):
    """A wait for an event that cancels its run, in `bucket` under the name `waiter`.

    At `due` (Unix ms) it ends or, if it lasts until the end of the run, is renewed.
    """

    waiter: StepRef
    bucket: Bucket
    due: int
    renewed: bool = False


class RunEvents(msgspec.Struct, frozen=True, omit_defaults=True):
    """The events that started a run, the waits for those that cancel it, and the `callers` of others of its batch."""

    events: tuple[EventRecord, ...]
    cancel_waits: tuple[CancelWait, ...] = ()
    callers: tuple[StepRef, ...] = ()


class Branch(msgspec.Struct, frozen=True, omit_defaults=True):
    """One of the events that a step waits for: its `name` in the code, and what it must satisfy as `text`.

    It has the `bucket` in which it is registered, until its `event` comes or it expires.
    """

    name: str
    text: str
    bucket: Bucket | None = None
    looking_back: bool = False
    event: EventRecord | None = None


class OpenStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step without a result. `due` is when its timer fires (Unix ms, 0: it has none).

    A wait has the `bucket` in which it is registered. If it is `looking_back`, the matcher decides whether it times
    out. A step with a `queue` is dispatched to the workers of that queue, and the report of `claim` is the one that
    counts. `fingerprint` is that of its plan or report. `child` is the run that it invoked. One that waits for several
    events has `branches`, and needs the first of them or `every` one. Each attempt of a body passes its `gates` in
    order: it has `asked` for so many of them, and so many were `granted`. Its requests have the `number` of its plan.
    One that is `covered` runs by the permit of its run, and passes only the gates that count no code.
    `progress` is what the last heartbeat of its body said that was reported, null if there is none, and `sent_at` the
    time of that report. Its attempt has `passed` these gates.
    """

    id: str
    kind: StepKind
    due: int = 0
    attempt: int = 0
    group: str = ""
    bucket: Bucket | None = None
    signal: str = ""
    queue: str = ""
    claim: str = ""
    looking_back: bool = False
    fingerprint: int = 0
    child: str = ""
    branches: tuple[Branch, ...] = ()
    every: bool = False
    gates: tuple[Gate, ...] = ()
    asked: int = 0
    granted: int = 0
    number: int = 0
    progress: Raw = NULL
    sent_at: int = 0
    covered: bool = False
    passed: tuple[PassedGate, ...] = ()

    @property
    def queued(self) -> bool:
        """Whether its attempt has not passed all gates."""
        return self.granted < len(self.gates)

    @property
    def started(self) -> bool:
        """Whether workers have the command for its attempt: it is due, and has passed its gates."""
        return not self.due and not self.queued


class Lease(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run or step that a worker still executes after it left its group.

    `claims` are answered when the lease ends, at the latest at `until` (Unix ms).
    """

    until: int
    claims: tuple[Claim, ...] = ()


class Group(msgspec.Struct, frozen=True):
    """How many steps of a fan-out have no result yet."""

    open_count: int


class TimerKind(StrEnum):
    """What happens when a timer fires."""

    STEP = "step"
    RUN = "run"
    LEASE = "lease"
    PAUSE = "pause"
    CANCEL_WAITS = "cancel-waits"
    DEADLINE = "deadline"
    SCOPE_PAUSE = "scope-pause"
    START_EXPIRY = "start-expiry"
    CRON = "cron"
    KEPT_EVENTS_EXPIRY = "kept-events-expiry"
    EVENT_NAME_EXPIRY = "event-name-expiry"
    BULK = "bulk"
    GATE = "gate"
    LIMIT = "limit"


class Timer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A timer; its key has the time. `owner` is a run id, a run hash, a function id, an event name, an operation or
    a gate, by the kind.

    `name` distinguishes the timers of an owner: a step of the run, the number of a cron trigger, or the look-back
    window of kept events. The kept events that a timer deletes are those that follow the place `after`. A timer that
    has failed was due at `first_due` (Unix ms, 0: it has not failed), and its key has the time of the next attempt.
    """

    kind: TimerKind
    owner: str
    name: str = ""
    after: KeptPlace | None = None
    first_due: int = 0


class EventName(msgspec.Struct, frozen=True):
    """The paths by which runs wait for an event name, each with the time until which it is used ("": scan bucket)."""

    paths: dict[str, int]


class Wait(msgspec.Struct, frozen=True, omit_defaults=True):
    """A wait in its bucket: an event that satisfies the predicate ends the step.

    `behind` is how many events the shard had queued when the wait was placed: they came earlier and cannot end it. The
    event `trigger_id` cannot either.
    """

    waiter: StepRef
    predicate: Predicate
    expires_at: int
    behind: int = 0
    trigger_id: str = ""


class QueuedEvent(msgspec.Struct, frozen=True):
    """An event with more waits to check than one transition may; those up to `after` are done."""

    event: EventRecord
    after: StepRef | None = None
    arrived_at: int = 0


class QueuedCount(msgspec.Struct, frozen=True):
    """How many events this shard has ever queued."""

    count: int


class SignalWaiter(msgspec.Struct, frozen=True):
    """The only step that waits for a signal."""

    waiter: StepRef
    expires_at: int


class SignalRun(msgspec.Struct, frozen=True, omit_defaults=True):
    """The open run that a signal has started, and the signals that it takes by its next waits.

    It has not taken the `first` one yet, which started it. The `queued` ones start another run if it ends.
    """

    run_id: str
    first: SignalWithStart | None = None
    queued: tuple[SignalWithStart, ...] = ()


class Start(msgspec.Struct, frozen=True):
    """The start of a function by an event with an id, which starts it no second time before `until` (Unix ms)."""

    run_id: str
    until: int


class Triggers(msgspec.Struct, frozen=True):
    """The functions that an event name starts: pairs of function id and condition."""

    functions: tuple[tuple[str, str], ...]


class Crons(msgspec.Struct, frozen=True, omit_defaults=True):
    """The cron triggers of a function and when each is due next."""

    triggers: tuple[CronTrigger, ...]
    due: tuple[int, ...]


class Bulk(msgspec.Struct, frozen=True, omit_defaults=True):
    """A bulk operation, as history has `shown` it, and the counts since then.

    Of the pages of `upload`, `received` runs have arrived; a run that was not answered yet is a BulkItem. The timer of
    the operation fires at `due` (Unix ms, 0: it has none).
    """

    shown: BulkChanged
    upload: str
    received: int = 0
    due: int = 0


class OpenCount(msgspec.Struct, frozen=True):
    """How many runs of a function, or steps of a kind, are open; the shard's loop maintains it for the metrics."""

    count: int


class Position(msgspec.Struct, frozen=True, omit_defaults=True):
    """The offset up to which, exclusive, an input of the shard is in its tables; the shard's loop maintains it.

    `topic` is the id of the topic that had the offset: a topic that is created again under its name has another id.
    """

    offset: int
    topic: str = ""


Row = (
    Run
    | RunEvents
    | RunValues
    | GateState
    | GateRun
    | GateWaiter
    | GateShare
    | GateTag
    | LimitSetting
    | Child
    | Memo
    | OpenStep
    | Group
    | Lease
    | Timer
    | EventName
    | Wait
    | QueuedEvent
    | QueuedCount
    | SignalWaiter
    | SignalRun
    | Start
    | FunctionRegistered
    | Triggers
    | Crons
    | LookbackWindows
    | KeptEvent
    | KeptHead
    | KeptPaths
    | IndexedEvent
    | LookBack
    | Bulk
    | BulkItem
    | ScopePause
    | ScopeChanges
    | OpenCount
    | Position
)
