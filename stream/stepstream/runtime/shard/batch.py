"""What one pass of a shard writes: a batch, made of the effects of single inputs."""

import functools
from dataclasses import dataclass, field
from typing import Any

from stepstream.contract.codec import encode
from stepstream.contract.errors import TooLarge
from stepstream.contract.events import CHAIN_HEADER, ENGINE_ORIGIN, ORIGIN_HEADER
from stepstream.contract.history import RunEnded
from stepstream.contract.ids import shard_of
from stepstream.contract.limits import BATCH_BYTES_MAX, CHANGES_PER_BATCH_MAX
from stepstream.contract.matching import EventForwarded, EventRouted
from stepstream.contract.text.names import check_workers_name
from stepstream.contract.topics import CHANGELOG, COMMANDS, EVENTS, HISTORY, INBOX, payload_bytes_max
from stepstream.engine.runs.bulk import failed_outcome
from stepstream.engine.runs.failed_timers import retried
from stepstream.engine.state.changes import Changes, Count, Delete, Put, Reply, Sample, Send, is_local
from stepstream.engine.state.keys import Key
from stepstream.engine.state.records import Input
from stepstream.engine.state.rows import Row, Timer
from stepstream.engine.state.tables import encode_row
from stepstream.engine.state.view import Layer, View
from stepstream.runtime.dead_letters import dead_letter_record
from stepstream.runtime.ports import LogRecord, NewRecord, Offsets

_REASONS_LOGGED_MAX, _REASON_CHARACTERS_MAX = 3, 300
_COMMANDS = f"{COMMANDS}."
_OWN_HEADERS = ((ORIGIN_HEADER, ENGINE_ORIGIN),)


class Effects:
    """The changes that one input makes in its shard, directly and by records to itself, as a layer over `below`.

    A batch takes them as a whole or not at all: an input that cannot be applied, or whose changes cannot be written,
    changes nothing.
    """

    __slots__ = ("bytes", "counts", "layer", "outputs", "replies", "samples", "shard", "size", "urgent")

    def __init__(self, below: View, shard: int) -> None:
        self.layer = Layer(below)
        self.shard = shard
        self.outputs: list[NewRecord] = []
        self.replies: list[Reply] = []
        self.counts: dict[Count, int] = {}
        self.samples: list[Sample] = []
        self.size = 0
        self.bytes = 0
        self.urgent = False

    def add(self, changes: Changes) -> list[Input]:
        """Add the changes of one transition; return its records to this shard, which are inputs of the same effects."""
        local: list[Input] = []
        for count, amount in changes.counts.items():
            self.counts[count] = self.counts.get(count, 0) + amount
        self.samples += changes.samples
        self.size += len(changes.changes)
        for change in changes.changes:
            # By far the most frequent first. Class patterns of a match statement take twice as long.
            if isinstance(change, Put):
                self.layer.put(change.key, change.row)
            elif isinstance(change, Delete):
                self.layer.put(change.key, None)
            elif isinstance(change, Reply):
                self.replies.append(change)
                self.urgent = True
            elif is_local(change, self.shard):
                local.append(change.record)  # type: ignore[arg-type]  # What goes to the inbox is an InboxRecord.
            else:
                self._send(change)
        return local

    def _send(self, change: Send) -> None:
        topic, key, value = change.topic, change.key.encode(), encode(change.record)
        _check_name(topic)
        self.bytes += _checked(topic, len(key) + len(value))
        headers = (*_OWN_HEADERS, (CHAIN_HEADER, b"%d" % change.chain)) if topic == EVENTS else ()
        self.outputs.append(NewRecord(topic, change.partition, key, value, headers))
        # Of the entries of history, clients wait only for the ends of runs.
        self.urgent |= topic != HISTORY or isinstance(change.record, RunEnded)

    def rows(self) -> dict[Key[Any], bytes | None]:
        """Return the rows, encoded; raise TooLarge for one that the changelog does not accept."""
        rows = {key: None if row is None else encode_row(row) for key, row in self.layer.items()}
        sizes = [len(key.part) + len(key.sort) + len(value or b"") for key, value in rows.items()]
        self.bytes += sum(sizes)
        _checked(CHANGELOG, max(sizes, default=0))
        return rows


@functools.lru_cache(1_000)
def _check_name(topic: str) -> None:
    """Raise InvalidInput for a name that no topic can have: a batch that wrote to it would fail at every attempt."""
    if topic.startswith(_COMMANDS):
        check_workers_name(topic.removeprefix(_COMMANDS))


def _checked(topic: str, payload_bytes: int) -> int:
    """Return the size of a record; raise TooLarge for one that its topic would refuse at every attempt."""
    most = payload_bytes_max(topic)
    if payload_bytes > most:
        raise TooLarge(f"its result has {payload_bytes:,} bytes, and {topic} accepts {most:,}")
    return payload_bytes


@dataclass(slots=True)
class Batch:
    """What one pass of the loop commits; `rows` is the content of `overlay`, encoded.

    `now` is the time that its inputs see, `started_at` the time at which the pass started (Unix ms). `inputs` counts
    the records that it contains, and `applied` also those that the shard sent to itself. `events` counts, by name, the
    events that the shard matched with waits. An `urgent` batch is one that a client or worker waits for.
    """

    now: int
    overlay: Layer
    started_at: int
    rows: dict[Key[Any], bytes | None] = field(default_factory=dict)
    outputs: list[NewRecord] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    counts: dict[Count, int] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    size: int = 0
    bytes: int = 0
    inputs: int = 0
    applied: int = 0
    events: dict[str, int] = field(default_factory=dict)
    urgent: bool = False
    offsets: Offsets = field(default_factory=dict)
    dead_letters: list[str] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Whether the batch has reached a bound."""
        return self.size >= CHANGES_PER_BATCH_MAX or self.bytes >= BATCH_BYTES_MAX

    @property
    def can_wait(self) -> bool:
        """Whether there is something to commit that nothing waits for."""
        return self.size > 0 and not self.full and not self.urgent

    def add(self, effects: Effects) -> None:
        """Add the effects of an input; raise TooLarge, and add nothing, if its rows cannot be written."""
        self.rows.update(effects.rows())
        self.overlay.take(effects.layer)
        self.outputs += effects.outputs
        self.replies += effects.replies
        for count, amount in effects.counts.items():
            self.counts[count] = self.counts.get(count, 0) + amount
        self.samples += effects.samples
        self.size += effects.size
        self.bytes += effects.bytes
        self.urgent |= effects.urgent

    def put(self, key: Key[Any], row: Row | None) -> None:
        """Put a row, or delete it (None)."""
        self.overlay.put(key, row)
        self.rows[key] = None if row is None else encode_row(row)

    def retry(self, key: Key[Timer], timer: Timer) -> None:
        """Let a timer that failed fire again later."""
        self.put(key, None)
        self.put(*retried(key, timer, self.now))

    def note(self, value: Input) -> None:
        """Count an input that is applied, and count events by name."""
        self.applied += 1
        if isinstance(value, EventRouted | EventForwarded):
            self.events[value.event.name] = self.events.get(value.event.name, 0) + 1

    def count(self, count: Count, amount: int = 1) -> None:
        """Add to a count that the metrics have."""
        self.counts[count] = self.counts.get(count, 0) + amount

    def dead_letter(self, record: LogRecord, reason: str, kind: str) -> None:
        """Add the dead letter of an input that cannot be applied."""
        self.outputs.append(dead_letter_record(record, reason))
        self.dead_letters.append(
            f"{record.topic}-{record.partition}-{record.offset}: {reason[:_REASON_CHARACTERS_MAX]}"
        )
        self.count(("dead_letters", record.topic, kind))

    def fail(self, value: Input, record: LogRecord, error: Exception, shards: int) -> None:
        """Add the dead letter of an input that raised an error; a bulk operation that sent it receives the outcome."""
        reason = f"{type(error).__name__}: {error}"
        self.dead_letter(record, reason, "too-large" if isinstance(error, TooLarge) else "not-applicable")
        if ended := failed_outcome(value, reason):
            to = shard_of(ended.operation, shards)
            self.outputs.append(NewRecord(INBOX, to, ended.operation.encode(), encode(ended)))

    @property
    def reasons(self) -> str:
        """The origins and reasons of the first dead letters, and how many more there are; empty if there are none."""
        more = len(self.dead_letters) - _REASONS_LOGGED_MAX
        return "; ".join([*self.dead_letters[:_REASONS_LOGGED_MAX], *([f"and {more} more"] if more > 0 else [])])
