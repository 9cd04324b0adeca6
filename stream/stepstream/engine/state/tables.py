"""The tables of a shard: the key prefix, the row type and the owning shard of each, and the keys of its rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from stepstream.contract.codec import encode
from stepstream.contract.commands import Memo
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.ids import Bucket, StepRef, run_routing
from stepstream.contract.operators.bulk import BulkItem
from stepstream.contract.operators.limit_settings import LimitSetting
from stepstream.engine.state.gate_rows import (
    GateRun,
    GateShare,
    GateState,
    GateTag,
    GateWaiter,
    ShareWaiter,
)
from stepstream.engine.state.kept_rows import (
    IndexedEvent,
    KeptEvent,
    KeptHead,
    KeptPaths,
    KeptPlace,
    LookBack,
    LookbackWindows,
)
from stepstream.engine.state.keys import Key, number_bytes, parse_texts, text_bytes
from stepstream.engine.state.rows import (
    Bulk,
    Child,
    Crons,
    EventName,
    Group,
    Lease,
    OpenCount,
    OpenStep,
    Position,
    QueuedCount,
    QueuedEvent,
    Row,
    Run,
    RunEvents,
    SignalRun,
    SignalWaiter,
    Start,
    Timer,
    TimerKind,
    Triggers,
    Wait,
)
from stepstream.engine.state.scope_rows import ScopeChanges, ScopePause
from stepstream.engine.state.value_rows import RunValues

R = TypeVar("R", bound=msgspec.Struct)
Routing = Callable[[Key[Any], Any], str | None]
_RUN_TIMERS = {TimerKind.STEP, TimerKind.RUN, TimerKind.LEASE, TimerKind.PAUSE}
_RUN_TIMERS |= {TimerKind.CANCEL_WAITS, TimerKind.DEADLINE}


def _by_run(key: Key[Any], _row: object) -> str:
    return run_routing(parse_texts(key.part)[0])


def _by_name(key: Key[Any], _row: object) -> str:
    return parse_texts(key.part)[0]


def _by_bucket(key: Key[Any], _row: object) -> str:
    return Bucket(*parse_texts(key.part)).routing_key


def _by_timer(_key: Key[Any], timer: Timer) -> str:
    return run_routing(timer.owner) if timer.kind in _RUN_TIMERS else timer.owner


def _every_shard(_key: Key[Any], _row: object) -> None:
    return None


@dataclass(frozen=True, slots=True)
class Table(Generic[R]):
    """A table: the prefix of its keys, the type of its rows, and the routing key whose shard owns a row.

    The routing key is None in a table that every shard has for itself.
    """

    prefix: bytes
    row_type: type[R]
    routing_of: Routing = _every_shard

    def key(self, part: bytes = b"", sort: bytes = b"") -> Key[R]:
        """Return the key of a row."""
        return Key(self.prefix, part, sort)


RUNS = Table(b"r", Run, _by_run)
RUN_EVENTS = Table(b"e", RunEvents, _by_run)
RUN_VALUES = Table(b"U", RunValues, _by_run)
MEMOS = Table(b"m", Memo, _by_run)
STEPS = Table(b"o", OpenStep, _by_run)
GROUPS = Table(b"g", Group, _by_run)
LEASES = Table(b"v", Lease, _by_run)
CHILDREN = Table(b"C", Child, _by_run)
TIMERS = Table(b"t", Timer, _by_timer)
EVENT_NAMES = Table(b"n", EventName, _by_name)
WAITS = Table(b"w", Wait, _by_bucket)
QUEUED_EVENTS = Table(b"q", QueuedEvent, _by_bucket)
QUEUED_COUNT = Table(b"p", QueuedCount)
SIGNALS = Table(b"s", SignalWaiter, _by_name)
SIGNAL_RUNS = Table(b"S", SignalRun, _by_name)
STARTS = Table(b"d", Start, _by_name)
REGISTRATIONS = Table(b"f", FunctionRegistered)
TRIGGERS = Table(b"u", Triggers)
CRONS = Table(b"c", Crons, _by_name)
LOOKBACK_WINDOWS = Table(b"k", LookbackWindows)
KEPT_EVENTS = Table(b"l", KeptEvent, _by_name)
KEPT_HEAD = Table(b"a", KeptHead)
KEPT_PATHS = Table(b"x", KeptPaths, _by_name)
KEPT_INDEX = Table(b"y", IndexedEvent, _by_name)
LOOK_BACKS = Table(b"b", LookBack, _by_name)
BULKS = Table(b"j", Bulk, _by_name)
BULK_ITEMS = Table(b"z", BulkItem, _by_name)
SCOPE_PAUSES = Table(b"P", ScopePause)
SCOPE_CHANGES = Table(b"R", ScopeChanges)
GATES = Table(b"G", GateState, _by_name)
GATE_RUNS = Table(b"H", GateRun, _by_name)
GATE_QUEUE = Table(b"Q", GateWaiter, _by_name)
GATE_SHARES = Table(b"E", GateShare, _by_name)
GATE_TAGS = Table(b"T", GateTag, _by_name)
SHARE_QUEUE = Table(b"F", ShareWaiter, _by_name)
LIMIT_SETTINGS = Table(b"L", LimitSetting)
OPEN_COUNTS = Table(b"h", OpenCount)
POSITIONS = Table(b"i", Position)

_ALL: tuple[Table[Any], ...] = (
    *(RUNS, RUN_EVENTS, RUN_VALUES, MEMOS, STEPS, GROUPS, LEASES, CHILDREN, TIMERS),
    *(EVENT_NAMES, WAITS, QUEUED_EVENTS, QUEUED_COUNT, SIGNALS, SIGNAL_RUNS, STARTS, SCOPE_CHANGES),
    *(REGISTRATIONS, TRIGGERS, CRONS, LOOKBACK_WINDOWS, KEPT_EVENTS, KEPT_HEAD, KEPT_PATHS, KEPT_INDEX, LOOK_BACKS),
    *(
        BULKS,
        BULK_ITEMS,
        SCOPE_PAUSES,
        GATES,
        GATE_RUNS,
        GATE_QUEUE,
        GATE_SHARES,
        GATE_TAGS,
        SHARE_QUEUE,
        LIMIT_SETTINGS,
        OPEN_COUNTS,
        POSITIONS,
    ),
)
TABLES = {table.prefix: table for table in _ALL}
_DECODERS: dict[bytes, Callable[[bytes], Row]] = {
    prefix: msgspec.json.Decoder(table.row_type).decode for prefix, table in TABLES.items()
}


def decode_row(prefix: bytes, value: bytes) -> Row:
    """Return the row that `encode_row` wrote as `value`, of the table with this prefix."""
    return _DECODERS[prefix](value)


encode_row = encode
QUEUED_COUNT_KEY = QUEUED_COUNT.key()
LOOKBACK_WINDOWS_KEY = LOOKBACK_WINDOWS.key()
KEPT_HEAD_KEY = KEPT_HEAD.key()


def run_part(run_id: str) -> bytes:
    """Return the part under which all rows of a table that belong to a run are scanned."""
    return text_bytes(run_id)


def run_key(run_id: str) -> Key[Run]:
    """Return the key of a run."""
    return RUNS.key(text_bytes(run_id))


def run_events_key(run_id: str) -> Key[RunEvents]:
    """Return the key of the events that started a run."""
    return RUN_EVENTS.key(text_bytes(run_id))


def run_values_key(run_id: str) -> Key[RunValues]:
    """Return the key of the state that the code of a run has set."""
    return RUN_VALUES.key(text_bytes(run_id))


def memo_key(run_id: str, step: str) -> Key[Memo]:
    """Return the key of the result of a step."""
    return MEMOS.key(text_bytes(run_id), step.encode())


def step_key(run_id: str, step: str) -> Key[OpenStep]:
    """Return the key of a step without a result."""
    return STEPS.key(text_bytes(run_id), step.encode())


def step_of(key: Key[Any]) -> str:
    """Return the step of a key: that of a result, an open step, a lease, or a group."""
    return key.sort.decode()


def lease_key(run_id: str, step: str = "") -> Key[Lease]:
    """Return the key of the lease of a step, or of the run when no step is given."""
    return LEASES.key(text_bytes(run_id), step.encode())


def child_key(run_id: str, step: str) -> Key[Child]:
    """Return the key of the run that a step invoked."""
    return CHILDREN.key(text_bytes(run_id), step.encode())


def group_key(run_id: str, group: str) -> Key[Group]:
    """Return the key of a fan-out."""
    return GROUPS.key(text_bytes(run_id), group.encode())


def timer_key(due: int, timer: Timer) -> Key[Timer]:
    """Return the key of a timer; timers sort by the time when they are due (Unix ms)."""
    owner = text_bytes(timer.kind) + text_bytes(timer.owner) + text_bytes(timer.name)
    return TIMERS.key(b"", number_bytes(due) + owner + (number_bytes(timer.first_due) if timer.first_due else b""))


def timer_due(key: Key[Timer]) -> int:
    """Return when the timer of `key` is due (Unix ms)."""
    return int.from_bytes(key.sort[:8], "big")


def event_name_key(event: str) -> Key[EventName]:
    """Return the key of what is known of an event name."""
    return EVENT_NAMES.key(text_bytes(event))


def bucket_part(bucket: Bucket) -> bytes:
    """Return the part under which all rows of a bucket are scanned."""
    return text_bytes(bucket.event) + text_bytes(bucket.path) + text_bytes(bucket.value)


def waiter_place(waiter: StepRef) -> bytes:
    """Return the place of a wait within its bucket."""
    return text_bytes(waiter.run_id) + text_bytes(waiter.step)


def wait_key(bucket: Bucket, waiter: StepRef) -> Key[Wait]:
    """Return the key of a wait."""
    return WAITS.key(bucket_part(bucket), waiter_place(waiter))


def queued_event_key(bucket: Bucket, number: int) -> Key[QueuedEvent]:
    """Return the key of an event that is queued for a bucket; queued events sort by number."""
    return QUEUED_EVENTS.key(bucket_part(bucket), number_bytes(number))


def queue_number(key: Key[QueuedEvent]) -> int:
    """Return the number of a queued event."""
    return int.from_bytes(key.sort, "big")


def signal_run_key(signal: str) -> Key[SignalRun]:
    """Return the key of the run that a signal has started."""
    return SIGNAL_RUNS.key(text_bytes(signal))


def signal_key(signal: str) -> Key[SignalWaiter]:
    """Return the key of the waiter for a signal."""
    return SIGNALS.key(text_bytes(signal))


def start_key(run_hash: str) -> Key[Start]:
    """Return the key of the start of a function by an event."""
    return STARTS.key(text_bytes(run_hash))


def function_key(function: str) -> Key[FunctionRegistered]:
    """Return the key of a registered function."""
    return REGISTRATIONS.key(text_bytes(function))


def triggers_key(event: str) -> Key[Triggers]:
    """Return the key of the functions that an event name starts."""
    return TRIGGERS.key(text_bytes(event))


def crons_key(function: str) -> Key[Crons]:
    """Return the key of the cron triggers of a function."""
    return CRONS.key(text_bytes(function))


def crons_function(key: Key[Crons]) -> str:
    """Return the function that `crons_key` was given, from a key in a scan of the table."""
    return parse_texts(key.part + key.sort)[0]


def place_bytes(place: KeptPlace) -> bytes:
    """Return the place of a kept event as it sorts: by arrival (Unix ms), then by number, from 1."""
    return number_bytes(place[0]) + number_bytes(place[1])


def place_of(key: Key[Any]) -> KeptPlace:
    """Return the place of a kept event, or of its entry in an index."""
    return int.from_bytes(key.sort[:8], "big"), int.from_bytes(key.sort[8:], "big")


def kept_event_key(event: str, place: KeptPlace) -> Key[KeptEvent]:
    """Return the key of a kept event of a name."""
    return KEPT_EVENTS.key(text_bytes(event), place_bytes(place))


def kept_paths_key(event: str) -> Key[KeptPaths]:
    """Return the key of the paths by which the kept events of a name are indexed."""
    return KEPT_PATHS.key(text_bytes(event))


def index_entry_key(bucket: Bucket, place: KeptPlace) -> Key[IndexedEvent]:
    """Return the key of the entry of a kept event in the index of a bucket."""
    return KEPT_INDEX.key(bucket_part(bucket), place_bytes(place))


def look_backs_part(event: str, path: str) -> bytes:
    """Return the part under which the look-backs by a path are scanned."""
    return text_bytes(event) + text_bytes(path)


def look_back_key(event: str, path: str, waiter: StepRef) -> Key[LookBack]:
    """Return the key of a look-back in progress."""
    return LOOK_BACKS.key(look_backs_part(event, path), waiter_place(waiter))


def bulk_part(operation: str) -> bytes:
    """Return the part under which the runs of a bulk operation are scanned."""
    return text_bytes(operation)


def bulk_key(operation: str) -> Key[Bulk]:
    """Return the key of a bulk operation."""
    return BULKS.key(bulk_part(operation))


def bulk_item_key(operation: str, item: int) -> Key[BulkItem]:
    """Return the key of a run of a bulk operation, given by its number."""
    return BULK_ITEMS.key(bulk_part(operation), number_bytes(item))


def bulk_item_of(key: Key[BulkItem]) -> int:
    """Return the number of a run in its bulk operation."""
    return int.from_bytes(key.sort, "big")


def scope_pause_key(scope: str) -> Key[ScopePause]:
    """Return the key of the pause of a function or a queue."""
    return SCOPE_PAUSES.key(b"", scope.encode())


def scope_of(key: Key[ScopePause]) -> str:
    """Return the scope that `scope_pause_key` was given."""
    return key.sort.decode()


def limit_setting_key(gate: str) -> Key[LimitSetting]:
    """Return the key of how operators changed a gate, or all gates of a name if the value is empty."""
    return LIMIT_SETTINGS.key(b"", text_bytes(gate))


def limit_setting_of(key: Key[LimitSetting]) -> tuple[str, str]:
    """Return the name and the value of the gate that `limit_setting_key` was given."""
    name, value = parse_texts(key.sort)[0].split("\x00", 1)
    return name, value


def open_count_key(name: str, label: str) -> Key[OpenCount]:
    """Return the key of the number of open runs or steps: the name and the label of the metric."""
    return OPEN_COUNTS.key(b"", text_bytes(name) + text_bytes(label))


def open_count_of(key: Key[OpenCount]) -> tuple[str, str]:
    """Return the name and the label that `open_count_key` was given."""
    name, label = parse_texts(key.sort)
    return name, label


def position_key(topic: str, partition: int) -> Key[Position]:
    """Return the key of the position of an input."""
    return POSITIONS.key(b"", text_bytes(topic) + text_bytes(str(partition)))


def position_of(key: Key[Position]) -> tuple[str, int]:
    """Return the topic and the partition that `position_key` was given."""
    topic, partition = parse_texts(key.sort)
    return topic, int(partition)
