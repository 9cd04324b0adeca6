"""The tables of a shard: the rows, their order-preserving keys, and who owns them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from stepstream.contract.codec import encode
from stepstream.contract.commands import Memo
from stepstream.contract.events import EventRecord
from stepstream.contract.functions import CronTrigger, FunctionRegistered
from stepstream.contract.ids import run_routing
from stepstream.contract.inbox import Caller, Predicate


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

    For a `wait`, `event`, `path` and `value` say where it stands in the matcher; for a `signal`, `event` is its name.
    With a `queue` it is lent to the workers there, and `claim` is that of the one whose report counts.
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


class Group(msgspec.Struct, frozen=True):
    """How many steps of a fan-out have no result yet."""

    open_count: int


class Timer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something due; its key says when. `owner` is a run id, a run hash or a function id."""

    kind: str
    owner: str
    name: str = ""


class EventName(msgspec.Struct, frozen=True):
    """The paths by which runs wait for an event name, each with the time until which it is in use ("" is the scan)."""

    paths: dict[str, int]


class Wait(msgspec.Struct, frozen=True, omit_defaults=True):
    """A row of the matcher: wake the step of the run by an event that fulfils the rest of the predicate.

    `behind` is how many events the shard had queued before: those came earlier, and cannot end this wait.
    """

    run_id: str
    step: str
    predicate: Predicate
    expires_at: int
    behind: int = 0


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


class Keeping(msgspec.Struct, frozen=True):
    """For how long (ms) each function wants events kept, so that its waits may look back."""

    by_function: dict[str, int]


class RecentEvent(msgspec.Struct, frozen=True):
    """An event kept for waits that look back, with the time of its arrival."""

    event: EventRecord
    arrived_at: int


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
    | Keeping
    | RecentEvent
    | OpenCount
    | Position
)


class Key(NamedTuple):
    """The key of a row: its table, the part that one scan covers, and the place within it."""

    table: bytes
    part: bytes
    sort: bytes = b""

    def encode(self) -> bytes:
        """Return the bytes under which the row is stored; their order is that of (table, part, sort)."""
        return self.table + self.part + self.sort


def _text(value: str) -> bytes:
    return value.encode().replace(b"\x00", b"\x00\xff") + b"\x00\x00"


def _parse_texts(raw: bytes) -> list[str]:
    pieces = raw.replace(b"\x00\xff", b"\xff\xff").split(b"\x00\x00")
    return [piece.replace(b"\xff\xff", b"\x00").decode() for piece in pieces[:-1]]


RUN, RUN_EVENTS, MEMO, OPEN, GROUP = b"r", b"e", b"m", b"o", b"g"
TIMER, NAME, WAIT, SIGNAL, START = b"t", b"n", b"w", b"s", b"d"
FUNCTION, TRIGGER, CRON, RECENT, KEEPING = b"f", b"u", b"c", b"l", b"k"
QUEUE, QUEUED, OPEN_COUNT, POSITION = b"q", b"p", b"h", b"i"

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
    OPEN_COUNT: OpenCount,
    POSITION: Position,
    KEEPING: Keeping,
}
_DECODERS: dict[bytes, Callable[[bytes], Row]] = {
    table: msgspec.json.Decoder(row_type).decode for table, row_type in ROW_TYPES.items()
}
_RUN_TABLES = {RUN, RUN_EVENTS, MEMO, OPEN, GROUP}


def decode_row(table: bytes, value: bytes) -> Row:
    """Return the row of `table` that `encode_row` wrote as `value`."""
    return _DECODERS[table](value)


encode_row = encode


def run_key(run_id: str) -> Key:
    """Return the key of a run."""
    return Key(RUN, _text(run_id))


def run_events_key(run_id: str) -> Key:
    """Return the key of the events that started a run."""
    return Key(RUN_EVENTS, _text(run_id))


def memo_key(run_id: str, step: str) -> Key:
    """Return the key of a step's result."""
    return Key(MEMO, _text(run_id), step.encode())


def open_key(run_id: str, step: str) -> Key:
    """Return the key of a step without a result."""
    return Key(OPEN, _text(run_id), step.encode())


def group_key(run_id: str, group: str) -> Key:
    """Return the key of a fan-out."""
    return Key(GROUP, _text(run_id), group.encode())


def run_part(run_id: str) -> bytes:
    """Return the part under which all rows of a table that belong to a run are scanned."""
    return _text(run_id)


def timer_key(due: int, owner: str, name: str = "") -> Key:
    """Return the key of a timer; timers sort by the time they are due (Unix ms)."""
    return Key(TIMER, b"", due.to_bytes(8, "big") + _text(owner) + _text(name))


def timer_due(key: Key) -> int:
    """Return when the timer of `key` is due (Unix ms)."""
    return int.from_bytes(key.sort[:8], "big")


def name_key(event: str) -> Key:
    """Return the key of what is known of an event name."""
    return Key(NAME, _text(event))


def bucket_part(event: str, path: str, value: str) -> bytes:
    """Return the part that holds the waits for `event` whose first equality is `path` == `value`."""
    return _text(event) + _text(path) + _text(value)


def bucket_routing(event: str, path: str, value: str) -> str:
    """Return the routing key of a bucket of waits; the scan bucket (no path) stays with the name."""
    return f"{event}\x00{path}\x00{value}" if path else event


def wait_key(event: str, path: str, value: str, run_id: str, step: str) -> Key:
    """Return the key of a wait in the matcher."""
    return Key(WAIT, bucket_part(event, path, value), wait_place(run_id, step))


def wait_place(run_id: str, step: str) -> bytes:
    """Return the place of a wait within its bucket."""
    return _text(run_id) + _text(step)


def queue_key(event: str, path: str, value: str, number: int) -> Key:
    """Return the key of an event that is queued for a bucket; its number tells its turn."""
    return Key(QUEUE, bucket_part(event, path, value), number.to_bytes(8, "big"))


def queue_number(key: Key) -> int:
    """Return the number of a queued event."""
    return int.from_bytes(key.sort, "big")


QUEUED_KEY = Key(QUEUED, b"")


def signal_key(signal: str) -> Key:
    """Return the key of the waiter for a signal."""
    return Key(SIGNAL, _text(signal))


def start_key(run_hash: str) -> Key:
    """Return the key of the memory that a function was started by an event."""
    return Key(START, _text(run_hash))


def function_key(function: str) -> Key:
    """Return the key of a registered function."""
    return Key(FUNCTION, _text(function))


def trigger_key(event: str) -> Key:
    """Return the key of the functions that an event name starts."""
    return Key(TRIGGER, _text(event))


def cron_key(function: str) -> Key:
    """Return the key of a function's cron triggers."""
    return Key(CRON, _text(function))


KEEPING_KEY = Key(KEEPING, b"")


def open_count_key(name: str, label: str) -> Key:
    """Return the key of how many of something are open."""
    return Key(OPEN_COUNT, b"", _text(name) + _text(label))


def open_count_of(key: Key) -> tuple[str, str]:
    """Return the name and the label that `open_count_key` was given."""
    name, label = _parse_texts(key.sort)
    return name, label


def position_key(topic: str, partition: int) -> Key:
    """Return the key of how far an input was taken."""
    return Key(POSITION, b"", _text(topic) + _text(str(partition)))


def position_of(key: Key) -> tuple[str, int]:
    """Return the topic and the partition that `position_key` was given."""
    topic, partition = _parse_texts(key.sort)
    return topic, int(partition)


def recent_part(event: str) -> bytes:
    """Return the part under which the kept events of a name are scanned."""
    return _text(event)


def recent_key(event: str, arrived_at: int, event_id: str) -> Key:
    """Return the key of a kept event; those of a name sort by arrival (Unix ms)."""
    return Key(RECENT, _text(event), arrived_at.to_bytes(8, "big") + _text(event_id))


def routing_of(key: Key, row: Row) -> str | None:
    """Return the routing key whose shard owns the row, or None for a table that every shard keeps whole."""
    texts = _parse_texts(key.part)
    match key.table, row:
        case (t, _) if t in _RUN_TABLES:
            return run_routing(texts[0])
        case b"t", Timer():
            return row.owner if row.kind in ("cron", "start-memory") else run_routing(row.owner)
        case ((b"w" | b"q"), _):
            return bucket_routing(*texts)
        case ((b"n" | b"s" | b"d" | b"c" | b"l"), _):
            return texts[0]
        case _:
            return None
