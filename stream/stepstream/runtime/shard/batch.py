"""What one pass of a shard writes: a batch, made of parts that are put into it whole or not at all."""

import functools
from dataclasses import dataclass, field
from typing import Any

from stepstream.contract.codec import encode
from stepstream.contract.errors import TooLarge
from stepstream.contract.events import ENGINE_ORIGIN, ORIGIN_HEADER
from stepstream.contract.history import RunEnded
from stepstream.contract.limits import BATCH_BYTES_MAX, CHANGES_PER_BATCH_MAX
from stepstream.contract.names import check_workers_name
from stepstream.contract.topics import CHANGELOG, COMMANDS, EVENTS, HISTORY, payload_bytes_max
from stepstream.engine.state.changes import Changes, Count, Delete, Put, Reply, Sample, Send, is_local
from stepstream.engine.state.keys import Key
from stepstream.engine.state.records import Input
from stepstream.engine.state.rows import Row
from stepstream.engine.state.tables import encode_row
from stepstream.engine.state.view import Layer, View
from stepstream.runtime.dead_letters import dead_letter_record
from stepstream.runtime.ports import LogRecord, NewRecord, Offsets

_LETTERS_TOLD_MAX, _REASON_CHARACTERS_MAX = 3, 300
_COMMANDS = f"{COMMANDS}."
_OWN_HEADERS = ((ORIGIN_HEADER, ENGINE_ORIGIN),)


class Part:
    """What one input asks for, and all that follows from it in its shard, on top of what `below` shows.

    It changes nothing until a batch takes it: what cannot be applied to its end, or be written, leaves no trace.
    """

    __slots__ = ("awaited", "bytes", "counts", "layer", "outputs", "replies", "samples", "shard", "size")

    def __init__(self, below: View, shard: int) -> None:
        self.layer = Layer(below)
        self.shard = shard
        self.outputs: list[NewRecord] = []
        self.replies: list[Reply] = []
        self.counts: dict[Count, int] = {}
        self.samples: list[Sample] = []
        self.size = 0
        self.bytes = 0
        self.awaited = False

    def take(self, changes: Changes) -> list[Input]:
        """Put changes into the part; return the records that stay in this shard."""
        local: list[Input] = []
        for count, amount in changes.counts.items():
            self.counts[count] = self.counts.get(count, 0) + amount
        self.samples += changes.samples
        self.size += len(changes.changes)
        for change in changes.changes:
            match change:
                case Put(key, row):
                    self.layer.put(key, row)
                case Delete(key):
                    self.layer.put(key, None)
                case Reply():
                    self.replies.append(change)
                    self.awaited = True
                case Send():
                    if is_local(change, self.shard):
                        local.append(change.record)  # type: ignore[arg-type]  # What goes to the inbox is an InboxRecord.
                    else:
                        self._send(change)
        return local

    def _send(self, change: Send) -> None:
        topic, key, value = change.topic, change.key.encode(), encode(change.record)
        _check_name(topic)
        self.bytes += _checked(topic, len(key) + len(value))
        headers = _OWN_HEADERS if topic == EVENTS else ()
        self.outputs.append(NewRecord(topic, change.partition, key, value, headers))
        # Of history, it is the ends of runs that others wait for.
        self.awaited |= topic != HISTORY or isinstance(change.record, RunEnded)

    def rows(self) -> dict[Key[Any], bytes | None]:
        """Return the rows as they are stored; raise TooLarge for one that the changelog does not take."""
        rows = {key: None if row is None else encode_row(row) for key, row in self.layer.items()}
        sizes = [len(key.part) + len(key.sort) + len(value or b"") for key, value in rows.items()]
        self.bytes += sum(sizes)
        _checked(CHANGELOG, max(sizes, default=0))
        return rows


@functools.lru_cache(1_000)
def _check_name(topic: str) -> None:
    """Raise InvalidInput for a topic that cannot be: a batch that writes to it would fail again and again."""
    if topic.startswith(_COMMANDS):
        check_workers_name(topic.removeprefix(_COMMANDS))


def _checked(topic: str, payload_bytes: int) -> int:
    """Return the size of what is to be written; a topic that would refuse it would refuse it again and again."""
    most = payload_bytes_max(topic)
    if payload_bytes > most:
        raise TooLarge(f"what comes of it has {payload_bytes:,} bytes, and {topic} takes {most:,}")
    return payload_bytes


@dataclass(slots=True)
class Batch:
    """What one pass of the loop does, before it is done; `rows` is what `overlay` shows, as it is stored.

    `now` is the time for what it does, `begun_at` when the pass began (Unix ms).
    """

    now: int
    overlay: Layer
    begun_at: int
    rows: dict[Key[Any], bytes | None] = field(default_factory=dict)
    outputs: list[NewRecord] = field(default_factory=list)
    replies: list[Reply] = field(default_factory=list)
    counts: dict[Count, int] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)
    size: int = 0
    bytes: int = 0
    taken: int = 0
    awaited: bool = False
    offsets: Offsets = field(default_factory=dict)
    letters: list[str] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Tell whether nothing more is to be put into it."""
        return self.size >= CHANGES_PER_BATCH_MAX or self.bytes >= BATCH_BYTES_MAX

    @property
    def can_wait(self) -> bool:
        """Tell whether there is something to commit, but nobody for whom it has to be soon."""
        return self.size > 0 and not self.full and not self.awaited

    def add(self, part: Part) -> None:
        """Put a part into it; raise TooLarge, and put in nothing, when its rows cannot be written."""
        self.rows.update(part.rows())
        self.overlay.take(part.layer)
        self.outputs += part.outputs
        self.replies += part.replies
        for count, amount in part.counts.items():
            self.count(count, amount)
        self.samples += part.samples
        self.size += part.size
        self.bytes += part.bytes
        self.awaited |= part.awaited

    def put(self, key: Key[Any], row: Row | None) -> None:
        """Put a row into it, or delete it by None."""
        self.overlay.put(key, row)
        self.rows[key] = None if row is None else encode_row(row)

    def count(self, count: Count, amount: int = 1) -> None:
        """Count something worth watching."""
        self.counts[count] = self.counts.get(count, 0) + amount

    def dead_letter(self, record: LogRecord, reason: str, kind: str) -> None:
        """Keep a record that cannot be applied, with its bytes and the reason."""
        self.outputs.append(dead_letter_record(record, reason))
        self.letters.append(f"{record.topic}-{record.partition}-{record.offset}: {reason[:_REASON_CHARACTERS_MAX]}")
        self.count(("dead_letters", record.topic, kind))

    @property
    def count_dead_letters(self) -> str:
        """The first places and reasons of what was put aside, and how many more there are; empty when nothing was."""
        more = len(self.letters) - _LETTERS_TOLD_MAX
        return "; ".join([*self.letters[:_LETTERS_TOLD_MAX], *([f"and {more} more"] if more > 0 else [])])
