"""The journal of an embedded runtime: topics, offsets and rows of one process, and its twin in memory."""

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Protocol
from zlib import crc32

from sortedcontainers import SortedDict

from stepstream.contract.topics import CHANGELOG
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import LogRecord, NewRecord, Offsets, StoredRow

COMPACTION_RECORDS = 10_000


@dataclass(slots=True)
class JournalWrite:
    """What is written as one: records to append, offsets of a group, rows of tables."""

    records: list[NewRecord] = field(default_factory=list)
    offsets: dict[str, Offsets] = field(default_factory=dict)
    rows: list[StoredRow] = field(default_factory=list)


class Journal(Protocol):
    """A small log with groups; appended records are visible when `write` returns."""

    notifications: "Notifications"
    partitions: int
    producers: dict[str, int]

    def write(self, write: JournalWrite, timestamp: int) -> list[tuple[int, int]]:
        """Write all or nothing; return (partition, offset) of each record. `timestamp` is the log's time (Unix ms)."""

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[LogRecord]:
        """Return up to `limit` records from `offset` on."""

    def end(self, topic: str, partition: int) -> int:
        """Return the offset that the next record of the partition gets."""

    def committed(self, group: str, topic: str, partition: int) -> int:
        """Return the committed offset of a group, 0 when it has none."""

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Drop the records before an offset: nobody reads them any more."""

    def close(self) -> None:
        """Let go of everything."""


def choose_partition(record: NewRecord, partitions: int) -> int:
    """Return the partition of a record: its own, or one chosen by the key."""
    if record.partition >= 0:
        return record.partition
    return crc32(record.key) % partitions if partitions > 1 else 0


class Notifications:
    """The bells of a journal, any number a topic."""

    def __init__(self) -> None:
        self._notifications: dict[str, list[Notification]] = {}

    def add(self, topic: str, notification: Notification) -> None:
        """Have `bell` ring for `topic`."""
        self._notifications.setdefault(topic, []).append(notification)

    def remove(self, notification: Notification) -> None:
        """Have `bell` ring no more."""
        for notifications in self._notifications.values():
            if notification in notifications:
                notifications.remove(notification)

    def notify(self, topics: Iterable[str]) -> None:
        """Ring for each of `topics`."""
        for topic in topics:
            for notification in self._notifications.get(topic, ()):
                notification.notify()


@dataclass(slots=True)
class _Partition:
    end: int = 0
    records: list[LogRecord] = field(default_factory=list)
    kept: int = 0

    def place(self, offset: int) -> int:
        """Return the place in the list of the first record at or after an offset."""
        return bisect_left(self.records, offset, key=attrgetter("offset"))

    def compact(self) -> None:
        """Keep of each key only the latest record, once those that are not have become the most.

        Deletions stay for a while, as Kafka keeps them, for tables that are a little behind.
        """
        if len(self.records) < 2 * self.kept + COMPACTION_RECORDS:
            return
        latest = {record.key: record.offset for record in self.records}
        recent = self.end - COMPACTION_RECORDS
        self.records = [r for r in self.records if latest[r.key] == r.offset and (r.value or r.offset >= recent)]
        self.kept = len(self.records)


class MemoryJournal:
    """The journal of tests and simulations: it lives as long as the object, and outlives its users' crashes."""

    def __init__(self, partitions: int = 1) -> None:
        self.partitions = partitions
        self.notifications = Notifications()
        self._topics: dict[tuple[str, int], _Partition] = {}
        self._offsets: dict[tuple[str, str, int], int] = {}
        self.producers: dict[str, int] = {}

    def write(self, write: JournalWrite, timestamp: int) -> list[tuple[int, int]]:
        """Write all or nothing; return (partition, offset) of each record."""
        places: list[tuple[int, int]] = []
        for record in write.records:
            partition = choose_partition(record, self.partitions)
            at = self._partition(record.topic, partition)
            at.records.append(
                LogRecord(record.topic, partition, at.end, record.key, record.value, record.headers, timestamp)
            )
            places.append((partition, at.end))
            at.end += 1
            if record.topic == CHANGELOG:
                at.compact()
        for group, offsets in write.offsets.items():
            for (topic, partition), offset in offsets.items():
                self._offsets[group, topic, partition] = offset
        self.notifications.notify({record.topic for record in write.records})
        return places

    def _partition(self, topic: str, partition: int) -> _Partition:
        return self._topics.setdefault((topic, partition), _Partition())

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[LogRecord]:
        """Return up to `limit` records from `offset` on."""
        at = self._topics.get((topic, partition))
        if at is None:
            return []
        start = at.place(offset)
        return at.records[start : start + limit]

    def end(self, topic: str, partition: int) -> int:
        """Return the offset that the next record of the partition gets."""
        at = self._topics.get((topic, partition))
        return at.end if at else 0

    def committed(self, group: str, topic: str, partition: int) -> int:
        """Return the committed offset of a group, 0 when it has none."""
        return self._offsets.get((group, topic, partition), 0)

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Drop the records before an offset: nobody reads them any more."""
        at = self._partition(topic, partition)
        del at.records[: at.place(before)]

    def close(self) -> None:
        """Do nothing: memory goes with its last user."""


class MemoryStore:
    """Tables in memory, ordered by key."""

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
        """Return the pairs whose keys begin with `prefix`, in order, those after a key."""
        found: list[tuple[bytes, bytes]] = []
        for key in self.rows.irange(minimum=after or prefix, inclusive=(not after, True)):
            if not key.startswith(prefix) or (limit and len(found) == limit):
                break
            found.append((key, self.rows[key]))
        return found

    def write(self, rows: Sequence[StoredRow], position: int) -> None:
        """Write rows (None: delete) and position as one."""
        for key, value in rows:
            if value is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = value
        self.position = position

    def discard(self) -> None:
        """Throw the tables away."""
        self.rows.clear()
        self.position = 0

    def close(self) -> None:
        """Do nothing: memory goes with its last user."""
