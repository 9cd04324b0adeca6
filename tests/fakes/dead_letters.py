"""A cluster in memory, as far as dead letters are read and redriven."""

from collections.abc import Sequence
from typing import cast

from stepstream.contract.topics import DEAD_LETTERS, EVENTS
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import LogError, LogRecord, NewRecord


class DeadLetterTopics:
    """A cluster whose topics are lists of records; its readers return one record at a time."""

    def __init__(self, *dead_letters: NewRecord, topics: dict[str, int] | None = None, first: int = 0) -> None:
        self.settings = KafkaSettings()
        self.counts = {EVENTS: 2, DEAD_LETTERS: 1} if topics is None else topics
        self.first = first
        self.records: list[LogRecord] = []
        self.sent: list[NewRecord] = []
        self.closed = 0
        self.written: list[NewRecord] | None = None
        self.broken = False
        self._at: dict[tuple[str, int], int] = {}
        self.keep(dead_letters)

    def keep(self, dead_letters: Sequence[NewRecord]) -> None:
        """Append to the one partition of `dead-letters`."""
        for each in dead_letters:
            offset = self.first + len(self.records)
            nulls = tuple(name for name in each.nulls if not getattr(each, name))
            self.records.append(LogRecord(DEAD_LETTERS, 0, offset, each.key, each.value, each.headers, offset, nulls))

    async def topics(self, names: Sequence[str] | None = None) -> dict[str, int]:
        """Return the topics."""
        return self.counts

    async def reader(self) -> "DeadLetterTopics":
        """Return the reader."""
        return self

    async def producer(self, transactional_id: str) -> "DeadLetterTopics":
        """Return the transactional producer."""
        assert transactional_id
        return self

    def assign(self, places: Sequence[tuple[str, int]]) -> None:
        """Assign partitions, which must exist."""
        assert all(partition < self.counts[topic] for topic, partition in places)

    async def beginnings(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the first offsets."""
        return dict.fromkeys(places, self.first)

    async def ends(self, places: Sequence[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the last offsets."""
        return dict.fromkeys(places, self.first + len(self.records))

    def seek(self, positions: dict[tuple[str, int], int]) -> None:
        """Move to offsets that exist."""
        assert all(self.first <= offset <= self.first + len(self.records) for offset in positions.values())
        self._at = dict(positions)

    async def position(self, at: tuple[str, int]) -> int:
        """Return the offset of the next record."""
        return self._at[at]

    async def read(self, _limit: int, _wait_ms: int) -> list[LogRecord]:
        """Return the next record."""
        ((at, offset),) = self._at.items()
        self._at[at] = offset + 1
        return [self.records[offset - self.first]]

    async def begin(self) -> None:
        """Open a transaction."""
        assert self.written is None
        self.written = []

    async def send(self, records: Sequence[NewRecord]) -> None:
        """Write records in the open transaction."""
        assert self.written is not None
        self.written += records

    async def commit(self) -> None:
        """Commit the transaction, or fail."""
        if self.broken:
            raise LogError("committing: no broker answers")
        assert self.written is not None
        self.sent += self.written
        self.keep([record for record in self.written if record.topic == DEAD_LETTERS])
        self.written = None

    async def close(self) -> None:
        """Count the call, and abort an open transaction."""
        self.closed += 1
        self.written = None

    @property
    def cluster(self) -> Cluster:
        """This object, typed as a cluster."""
        return cast(Cluster, self)
