"""The journal of an embedded engine: the topics, group offsets and tables of one process; and its version in memory."""

import functools
import itertools
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Protocol
from zlib import crc32

from sortedcontainers import SortedDict

from stepstream.contract.topics import CHANGELOG
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import LogError, LogRecord, NewRecord, Offsets, StoredRow
from stepstream.runtime.storage.syncing import Fsync, Syncing

COMPACTION_RECORDS = 10_000


@functools.lru_cache(1_024)
def key_after(prefix: bytes) -> bytes:
    """Return the first key after all keys that start with `prefix`."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1])


@dataclass(slots=True)
class JournalWrite:
    """An atomic write: records to append, offsets by group, rows of tables."""

    records: list[NewRecord] = field(default_factory=list)
    offsets: dict[str, Offsets] = field(default_factory=dict)
    rows: list[StoredRow] = field(default_factory=list)


class Journal(Protocol):
    """A log with consumer groups, for one process; appended records are visible when `write` returns.

    `failure` says why nothing can be written, and is empty if it can. `syncing` waits until what was written has
    reached the disk, as far as that was asked for.
    """

    failure: str
    syncing: Syncing
    notifications: "Notifications"
    partitions: int
    producers: dict[str, int]

    def write(self, write: JournalWrite, timestamp: int) -> list[tuple[int, int]]:
        """Write atomically at the time `timestamp` (Unix ms); return (partition, offset) of each record."""

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[LogRecord]:
        """Return up to `limit` records from `offset` on."""

    def end(self, topic: str, partition: int) -> int:
        """Return the offset of the next record of a partition."""

    def committed(self, group: str, topic: str, partition: int) -> int:
        """Return the committed offset of a group, or 0."""

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Drop the records before an offset, which are not read again."""

    def skip_to(self, topic: str, partition: int, offset: int) -> None:
        """Give the next record of a partition this offset, which is higher than its end."""

    def close(self) -> None:
        """Release all resources."""


def choose_partition(record: NewRecord, partitions: int) -> int:
    """Return the partition of a record: the one it has, or one chosen by its key."""
    if record.partition >= 0:
        return record.partition
    return crc32(record.key) % partitions if partitions > 1 else 0


class Notifications:
    """The notifications to send when a topic of the journal has new records."""

    def __init__(self) -> None:
        self._notifications: dict[str, list[Notification]] = {}

    def add(self, topic: str, notification: Notification) -> None:
        """Notify when `topic` has new records."""
        self._notifications.setdefault(topic, []).append(notification)

    def remove(self, notification: Notification) -> None:
        """Stop notifying."""
        for notifications in self._notifications.values():
            if notification in notifications:
                notifications.remove(notification)

    def notify(self, topics: Iterable[str]) -> None:
        """Notify all that wait for one of `topics`."""
        for topic in topics:
            for notification in self._notifications.get(topic, ()):
                notification.notify()

    def notify_all(self) -> None:
        """Notify all that wait for any topic."""
        self.notify(tuple(self._notifications))


@dataclass(slots=True)
class _Partition:
    end: int = 0
    records: list[LogRecord] = field(default_factory=list)
    kept: int = 0

    def index(self, offset: int) -> int:
        """Return the index of the first record at or after an offset."""
        return bisect_left(self.records, offset, key=attrgetter("offset"))

    def compact(self) -> None:
        """Keep only the latest record of each key, once most records are not.

        Deletions are kept for a while, as Kafka does, for tables that are slightly behind.
        """
        if len(self.records) < 2 * self.kept + COMPACTION_RECORDS:
            return
        latest = {record.key: record.offset for record in self.records}
        recent = self.end - COMPACTION_RECORDS
        self.records = [r for r in self.records if latest[r.key] == r.offset and (r.value or r.offset >= recent)]
        self.kept = len(self.records)


class MemoryJournal:
    """The journal of tests and simulations. It lives as long as the object, so it survives simulated crashes."""

    def __init__(self, partitions: int = 1) -> None:
        self.failure = ""
        self.syncing = Syncing(Fsync.NEVER, lambda: None, LogError)
        self.partitions = partitions
        self.notifications = Notifications()
        self._topics: dict[tuple[str, int], _Partition] = {}
        self._offsets: dict[tuple[str, str, int], int] = {}
        self.producers: dict[str, int] = {}

    def write(self, write: JournalWrite, timestamp: int) -> list[tuple[int, int]]:
        """Write atomically; return (partition, offset) of each record."""
        written: list[tuple[int, int]] = []
        for record in write.records:
            partition = choose_partition(record, self.partitions)
            at = self._partition(record.topic, partition)
            at.records.append(
                LogRecord(record.topic, partition, at.end, record.key, record.value, record.headers, timestamp)
            )
            written.append((partition, at.end))
            at.end += 1
            if record.topic == CHANGELOG:
                at.compact()
        for group, offsets in write.offsets.items():
            for (topic, partition), offset in offsets.items():
                self._offsets[group, topic, partition] = offset
        # In the order of the records: the order of a set of text differs from process to process.
        self.notifications.notify(dict.fromkeys(record.topic for record in write.records))
        return written

    def _partition(self, topic: str, partition: int) -> _Partition:
        return self._topics.setdefault((topic, partition), _Partition())

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[LogRecord]:
        """Return up to `limit` records from `offset` on."""
        at = self._topics.get((topic, partition))
        if at is None:
            return []
        start = at.index(offset)
        return at.records[start : start + limit]

    def end(self, topic: str, partition: int) -> int:
        """Return the offset of the next record of a partition."""
        at = self._topics.get((topic, partition))
        return at.end if at else 0

    def committed(self, group: str, topic: str, partition: int) -> int:
        """Return the committed offset of a group, or 0."""
        return self._offsets.get((group, topic, partition), 0)

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Drop the records before an offset, which are not read again."""
        at = self._partition(topic, partition)
        del at.records[: at.index(before)]

    def skip_to(self, topic: str, partition: int, offset: int) -> None:
        """Give the next record of a partition this offset, which is higher than its end."""
        self._partition(topic, partition).end = offset

    def close(self) -> None:
        """Do nothing."""


class MemoryStore:
    """The tables of a shard in memory, ordered by key."""

    def __init__(self) -> None:
        self.rows: SortedDict[bytes, bytes] = SortedDict()
        self.position = 0

    def open(self) -> int:
        """Return the changelog position that the tables reflect."""
        return self.position

    def get(self, key: bytes) -> bytes | None:
        """Return the value under `key`."""
        return self.rows.get(key)

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Return the pairs whose keys start with `prefix` and follow `after`, in order."""
        found: list[tuple[bytes, bytes]] = []
        for key in self.rows.irange(minimum=after or prefix, inclusive=(not after, True)):
            if not key.startswith(prefix) or (limit and len(found) == limit):
                break
            found.append((key, self.rows[key]))
        return found

    def last(self, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the last pairs whose keys start with `prefix`, in order, at most `limit`."""
        keys = self.rows.irange(prefix, key_after(prefix), inclusive=(True, False), reverse=True)
        return [(key, self.rows[key]) for key in itertools.islice(keys, limit)][::-1]

    def write(self, rows: Sequence[StoredRow], position: int) -> None:
        """Write rows and the changelog position."""
        for key, value in rows:
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value
        self.position = position

    def discard(self) -> None:
        """Delete all rows."""
        self.rows.clear()
        self.position = 0

    def set_aside(self) -> str:
        """Delete all rows: nothing is left of tables in memory."""
        self.discard()
        return ""

    def close(self) -> None:
        """Do nothing."""
