"""The order-preserving keys of a shard's rows."""

from typing import NamedTuple


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


def parse_texts(raw: bytes) -> list[str]:
    """Return the texts of which a part or a place is made."""
    pieces = raw.replace(b"\x00\xff", b"\xff\xff").split(b"\x00\x00")
    return [piece.replace(b"\xff\xff", b"\x00").decode() for piece in pieces[:-1]]


RUN, RUN_EVENTS, MEMO, OPEN, GROUP = b"r", b"e", b"m", b"o", b"g"
TIMER, NAME, WAIT, SIGNAL, START = b"t", b"n", b"w", b"s", b"d"
FUNCTION, TRIGGER, CRON, RECENT, KEEPING = b"f", b"u", b"c", b"l", b"k"
QUEUE, QUEUED, OPEN_COUNT, POSITION, RESERVED = b"q", b"p", b"h", b"i", b"v"
LOOK_BACK, KEPT = b"b", b"a"


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


def lease_key(run_id: str, step: str = "") -> Key:
    """Return the key of a reservation of a step, or of the whole run without one."""
    return Key(RESERVED, _text(run_id), step.encode())


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
    name, label = parse_texts(key.sort)
    return name, label


def position_key(topic: str, partition: int) -> Key:
    """Return the key of how far an input was taken."""
    return Key(POSITION, b"", _text(topic) + _text(str(partition)))


def position_of(key: Key) -> tuple[str, int]:
    """Return the topic and the partition that `position_key` was given."""
    topic, partition = parse_texts(key.sort)
    return topic, int(partition)


def recent_part(event: str) -> bytes:
    """Return the part under which the kept events of a name are scanned."""
    return _text(event)


def recent_key(event: str, arrived_at: int, number: int) -> Key:
    """Return the key of a kept event; those of a name sort by arrival (Unix ms), then by number, as they came."""
    return Key(RECENT, _text(event), recent_place(arrived_at, number))


def recent_place(arrived_at: int, number: int) -> bytes:
    """Return the place of a kept event among those of its name; numbers begin with 1."""
    return arrived_at.to_bytes(8, "big") + number.to_bytes(8, "big")


def recent_at(key: Key) -> int:
    """Return the time (Unix ms) by which a kept event is sorted; its own may be earlier, by a clock that was behind."""
    return int.from_bytes(key.sort[:8], "big")


def recent_number(key: Key) -> int:
    """Return the number of a kept event."""
    return int.from_bytes(key.sort[8:], "big")


KEPT_KEY = Key(KEPT, b"")


def look_back_key(event: str, run_id: str, step: str) -> Key:
    """Return the key of a look-back that is not at its end."""
    return Key(LOOK_BACK, _text(event), wait_place(run_id, step))
