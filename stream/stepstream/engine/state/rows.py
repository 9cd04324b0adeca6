"""The tables of a shard: the rows, and who owns them."""

from collections.abc import Callable
from typing import Any

import msgspec

from stepstream.contract.codec import encode
from stepstream.contract.commands import Memo
from stepstream.contract.events import EventRecord
from stepstream.contract.functions import CronTrigger, FunctionRegistered
from stepstream.contract.ids import run_routing
from stepstream.contract.inbox import Caller, EventMatched, Predicate, RunClaimed, StepClaimed, WaitOpened
from stepstream.engine.state.keys import (
    CRON,
    FUNCTION,
    GROUP,
    KEEPING,
    KEPT,
    LOOK_BACK,
    MEMO,
    NAME,
    OPEN,
    OPEN_COUNT,
    POSITION,
    QUEUE,
    QUEUED,
    RECENT,
    RESERVED,
    RUN,
    RUN_EVENTS,
    SIGNAL,
    START,
    TIMER,
    TRIGGER,
    WAIT,
    Key,
    bucket_routing,
    parse_texts,
)


class Run(msgspec.Struct, frozen=True, omit_defaults=True):
    """A run that has not ended.

    `seen` counts results given by the engine and `own` those made by workers, which orders the memos. `attempt` counts
    failures of the code between steps since the last result; `due` is when it is tried again, or starts (0: now).
    `claim` is the latest that was answered, so that a repeat of it changes nothing. `warnings` say where its code and
    its history disagreed.
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
    caller: Caller | None = None
    quiet: bool = False
    warnings: tuple[str, ...] = ()


class RunEvents(msgspec.Struct, frozen=True):
    """The events that started a run."""

    events: tuple[EventRecord, ...]


class OpenStep(msgspec.Struct, frozen=True, omit_defaults=True):
    """A step without a result. `due` is when its timer fires, 0 when it has none any more.

    For a `wait`, `event`, `path` and `value` say where it stands in the matcher, and it may be `looking` back; for a
    `signal`, `event` is its name. With a `queue` it is lent to the workers there, and `claim` is that of the one whose
    report counts.
    """

    id: str
    kind: str
    due: int = 0
    attempt: int = 0
    group: str = ""
    event: str = ""
    path: str = ""
    value: str = ""
    queue: str = ""
    claim: str = ""
    looking: bool = False


class Lease(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a worker that left its group has at work; `claims` are answered when it is done, or at `until` (Unix ms)."""

    until: int
    claims: tuple[RunClaimed | StepClaimed, ...] = ()


class Group(msgspec.Struct, frozen=True):
    """How many steps of a fan-out have no result yet."""

    open_count: int


class Timer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something due; its key says when. `owner` is a run id, a run hash, a function id or an event name."""

    kind: str
    owner: str
    name: str = ""


class EventName(msgspec.Struct, frozen=True):
    """The paths by which runs wait for an event name, each with the time until which it is in use ("" is the scan)."""

    paths: dict[str, int]


class Wait(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row of the matcher: wake the step of the run by an event that fulfils the rest of the predicate.

    `behind` is how many events the shard had queued before: those came earlier, and cannot end this wait. While it is
    `looking` back, the first event that fulfils it is only `met`: a kept one comes before it.
    """

    run_id: str
    step: str
    predicate: Predicate
    expires_at: int
    behind: int = 0
    looking: bool = False
    met: EventMatched | None = None


class QueuedEvent(msgspec.Struct, frozen=True):
    """An event that meets too many waits for one transition; `after` is the run and the step met last."""

    event: EventRecord
    after: tuple[str, str] | None = None
    arrived_at: int = 0


class Queued(msgspec.Struct, frozen=True):
    """How many events this shard has ever queued."""

    count: int


class SignalWaiter(msgspec.Struct, frozen=True):
    """The one waiter for a signal name."""

    run_id: str
    step: str
    expires_at: int


class Start(msgspec.Struct, frozen=True):
    """A start by an event with a chosen id; until `until` a second one starts nothing."""

    run_id: str
    until: int


class TriggerRow(msgspec.Struct, frozen=True):
    """The functions that an event name starts: pairs of function id and condition."""

    functions: tuple[tuple[str, str], ...]


class CronRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """The cron triggers of a function and when each is due next."""

    triggers: tuple[CronTrigger, ...]
    due: tuple[int, ...]


class RetentionRow(msgspec.Struct, frozen=True):
    """For how long (ms) each function wants events kept, so that its waits may look back."""

    by_function: dict[str, int]


class RecentEvent(msgspec.Struct, frozen=True):
    """An event kept for waits that look back, with the time of its arrival and of its end."""

    event: EventRecord
    arrived_at: int
    until: int


class EventRetention(msgspec.Struct, frozen=True):
    """How many events this shard has ever kept, and the time that the last of them has, which never goes back."""

    count: int
    arrived_at: int


class LookBack(msgspec.Struct, frozen=True):
    """A wait that is held against the kept events up to the one numbered `last`, and where it stands meanwhile."""

    wait: WaitOpened
    path: str
    value: str
    last: int


class OpenCount(msgspec.Struct, frozen=True):
    """How many runs of a function, or steps of a kind, are open; the shard keeps it for those who watch it."""

    count: int


class Position(msgspec.Struct, frozen=True):
    """Up to which offset, not included, an input of the shard is in its tables; the shard's loop keeps it."""

    offset: int


Row = (
    Run
    | RunEvents
    | Memo
    | OpenStep
    | Group
    | Timer
    | EventName
    | Wait
    | QueuedEvent
    | Queued
    | SignalWaiter
    | Start
    | FunctionRegistered
    | TriggerRow
    | CronRow
    | RetentionRow
    | RecentEvent
    | EventRetention
    | LookBack
    | OpenCount
    | Position
    | Lease
)


ROW_TYPES: dict[bytes, Any] = {
    RUN: Run,
    RUN_EVENTS: RunEvents,
    MEMO: Memo,
    OPEN: OpenStep,
    GROUP: Group,
    TIMER: Timer,
    NAME: EventName,
    WAIT: Wait,
    QUEUE: QueuedEvent,
    QUEUED: Queued,
    SIGNAL: SignalWaiter,
    START: Start,
    FUNCTION: FunctionRegistered,
    TRIGGER: TriggerRow,
    CRON: CronRow,
    RECENT: RecentEvent,
    KEPT: EventRetention,
    LOOK_BACK: LookBack,
    OPEN_COUNT: OpenCount,
    POSITION: Position,
    KEEPING: RetentionRow,
    RESERVED: Lease,
}
_DECODERS: dict[bytes, Callable[[bytes], Row]] = {
    table: msgspec.json.Decoder(row_type).decode for table, row_type in ROW_TYPES.items()
}
_RUN_TIMERS = {"step", "start", "run-retry", "reserved"}
_RUN_TABLES = {RUN, RUN_EVENTS, MEMO, OPEN, GROUP, RESERVED}


def decode_row(table: bytes, value: bytes) -> Row:
    """Return the row of `table` that `encode_row` wrote as `value`."""
    return _DECODERS[table](value)


encode_row = encode


def routing_of(key: Key, row: Row) -> str | None:
    """Return the routing key whose shard owns the row, or None for a table that every shard keeps whole."""
    texts = parse_texts(key.part)
    match key.table, row:
        case (t, _) if t in _RUN_TABLES:
            return run_routing(texts[0])
        case b"t", Timer():
            return run_routing(row.owner) if row.kind in _RUN_TIMERS else row.owner
        case ((b"w" | b"q"), _):
            return bucket_routing(*texts)
        case ((b"n" | b"s" | b"d" | b"c" | b"l" | b"b"), _):
            return texts[0]
        case _:
            return None
