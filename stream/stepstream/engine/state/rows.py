"""The rows of a shard's tables."""

from enum import StrEnum

import msgspec

from stepstream.contract.commands import Memo
from stepstream.contract.events import EventRecord
from stepstream.contract.functions import CronTrigger, FunctionRegistered
from stepstream.contract.ids import Bucket, StepRef
from stepstream.contract.inbox import Claim
from stepstream.contract.kinds import StepKind
from stepstream.contract.matching import EventMatched, Predicate, WaitOpened


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run that has not ended.

    `seen` counts the results that the engine gave and `own` those that workers made, which orders the memos. `attempt`
    counts failures of the code between steps since the last result; `due` is when the code is retried or the run
    starts (Unix ms, 0: now). `claim` is the latest that was answered, so that a repeat changes nothing. `warnings` say
    where the code and the history disagreed.
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


class RunEvents(msgspec.Struct, frozen=True):
    """The events that started a run."""

    events: tuple[EventRecord, ...]


class OpenStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step without a result. `due` is when its timer fires (Unix ms, 0: it has none).

    A wait has the `bucket` in which it is registered, and may be `looking_back`. A step with a `queue` is dispatched to
    the workers of that queue, and the report of `claim` is the one that counts.
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
    START_EXPIRY = "start-expiry"
    CRON = "cron"
    KEPT_EVENTS_EXPIRY = "kept-events-expiry"
    EVENT_NAME_EXPIRY = "event-name-expiry"


class Timer(msgspec.Struct, frozen=True, omit_defaults=True):
    """A timer; its key has the time. `owner` is a run id, a run hash, a function id or an event name, by the kind.

    `name` distinguishes the timers of an owner: a step of the run, or the number of a cron trigger.
    """

    kind: TimerKind
    owner: str
    name: str = ""


class EventName(msgspec.Struct, frozen=True):
    """The paths by which runs wait for an event name, each with the time until which it is used ("": scan bucket)."""

    paths: dict[str, int]


class Wait(msgspec.Struct, frozen=True, omit_defaults=True):
    """A wait in its bucket: an event that satisfies the predicate ends the step.

    `behind` is how many events the shard had queued when the wait was placed: they came earlier and cannot end it.
    While the wait is `looking_back`, the first event that satisfies it is only noted as `met`: a kept event has
    precedence.
    """

    waiter: StepRef
    predicate: Predicate
    expires_at: int
    behind: int = 0
    looking_back: bool = False
    met: EventMatched | None = None


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


class Start(msgspec.Struct, frozen=True):
    """The start of a function by an event with an id of its own; no other starts it again before `until` (Unix ms)."""

    run_id: str
    until: int


class Triggers(msgspec.Struct, frozen=True):
    """The functions that an event name starts: pairs of function id and condition."""

    functions: tuple[tuple[str, str], ...]


class Crons(msgspec.Struct, frozen=True, omit_defaults=True):
    """The cron triggers of a function and when each is due next."""

    triggers: tuple[CronTrigger, ...]
    due: tuple[int, ...]


class LookbackWindows(msgspec.Struct, frozen=True):
    """How far back (ms) the waits of each function may look; events are kept for the longest of these times."""

    by_function: dict[str, int]


class KeptEvent(msgspec.Struct, frozen=True):
    """An event kept for waits that look back: when it arrived, and when it is deleted."""

    event: EventRecord
    arrived_at: int
    until: int


class KeptHead(msgspec.Struct, frozen=True):
    """How many events this shard has ever kept, and the arrival time of the last one, which never decreases."""

    count: int
    arrived_at: int


class LookBack(msgspec.Struct, frozen=True):
    """A look-back in progress: its wait, the bucket in which that is placed, and the last kept event to evaluate."""

    wait: WaitOpened
    bucket: Bucket
    last: int


class OpenCount(msgspec.Struct, frozen=True):
    """How many runs of a function, or steps of a kind, are open; the shard's loop maintains it for the metrics."""

    count: int


class Position(msgspec.Struct, frozen=True):
    """The offset up to which, exclusive, an input of the shard is in its tables; the shard's loop maintains it."""

    offset: int


Row = (
    Run
    | RunEvents
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
    | Start
    | FunctionRegistered
    | Triggers
    | Crons
    | LookbackWindows
    | KeptEvent
    | KeptHead
    | LookBack
    | OpenCount
    | Position
)
