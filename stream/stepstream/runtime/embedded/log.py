"""The ports of one process, on top of a journal: Log, Store and Backbone."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

from stepstream.contract.topics import CHANGELOG, EVENTS, FUNCTIONS, HISTORY, INBOX
from stepstream.runtime.embedded.embedded_worker_log import EmbeddedWorkerLog
from stepstream.runtime.embedded.live_memory import LiveMemory
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import (
    Clock,
    Fenced,
    Log,
    LogRecord,
    NewRecord,
    Offsets,
    Origin,
    Store,
    StoredRow,
    StoreError,
)
from stepstream.runtime.storage.journal import Journal, JournalWrite, MemoryJournal, MemoryStore
from stepstream.runtime.storage.rocks import RocksJournal

_CHANGELOG_ROWS_PER_READ = 1_000
_HISTORY_PER_READ = _HISTORY_PER_DROP = 1_000
_IDLE_ITERATIONS, _GATHER_ITERATIONS_MAX, _GATHER_MS_MAX = 4, 64, 5


class EmbeddedLog:
    """The log of a shard. A transaction is staged in memory and written to the journal by its commit."""

    def __init__(self, journal: Journal, clock: Clock, shard: int) -> None:
        self.journal = journal
        self.clock = clock
        self.notification = Notification()
        self._shard = shard
        self._producer = f"shard-{shard}"
        self._inputs = ((FUNCTIONS, 0), (INBOX, shard), (EVENTS, shard))
        self._epoch = 0
        self._positions: Offsets = {}
        self._staged = JournalWrite()
        self._offsets: Offsets = {}

    async def open(self) -> None:
        """Become the shard's only producer."""
        self._epoch = self.journal.producers.get(self._producer, 0) + 1
        self.journal.producers[self._producer] = self._epoch
        for topic, _ in self._inputs:
            self.journal.notifications.add(topic, self.notification)

    async def origin(self) -> Origin:
        """Return no key: tables and changelog are in the same journal."""
        return Origin(b"", self.journal.end(CHANGELOG, self._shard))

    def topic_id(self, topic: str) -> str:  # noqa: ARG002 - the signature of the port
        """Return "": a topic of a journal is not deleted."""
        return ""

    async def changelog(self, position: int) -> AsyncIterator[tuple[list[StoredRow], int]]:
        """Yield the committed rows from `position` to the end."""
        while records := self.journal.read(CHANGELOG, self._shard, position, _CHANGELOG_ROWS_PER_READ):
            position = records[-1].offset + 1
            yield [(record.key, record.value or None) for record in records], position

    async def seek(self, positions: Offsets) -> None:
        """Read the inputs from these offsets; one without an offset is read from its beginning."""
        self._positions = {at: positions.get(at, 0) for at in self._inputs}

    def lags(self) -> dict[str, int]:
        """Return how many records of each input were not read, by topic."""
        return {at[0]: self.journal.end(*at) - position for at, position in self._positions.items()}

    def unread(self) -> bool:
        """Return whether an input has records that were not read."""
        return any(self.journal.end(*at) > position for at, position in self._positions.items())

    async def poll(self, limit: int, until_ms: int | None) -> list[LogRecord]:
        """Return up to `limit` new records of the inputs, wait for the first, but not beyond `until_ms`."""
        while True:
            found: list[LogRecord] = []
            for at, position in self._positions.items():
                records = self.journal.read(*at, position, limit - len(found))
                if records:
                    self._positions[at] = records[-1].offset + 1
                    found += records
            if found or (until_ms is not None and until_ms <= self.clock.now_ms()):
                return found
            await self.clock.wait(self.notification, until_ms)

    async def more(self, limit: int, until_ms: int | None) -> list[LogRecord]:  # noqa: ARG002 - the signature of the port
        """Return none: a commit is cheap, so batches are not delayed."""
        return []

    async def begin(self) -> None:
        """Open a transaction."""
        self._check_epoch()
        self._staged = JournalWrite()

    async def send(self, records: Sequence[NewRecord], rows: Sequence[StoredRow]) -> None:
        """Stage records and changelog rows."""
        self._check_epoch()
        self._staged.records += records
        self._staged.records += [NewRecord(CHANGELOG, self._shard, key, value or b"") for key, value in rows]

    async def commit(self, offsets: Offsets) -> int:
        """Write the staged transaction; return the changelog position after it."""
        self._check_epoch()
        self.journal.write(self._staged, self.clock.now_ms())
        self._trim(offsets)
        return self.journal.end(CHANGELOG, self._shard)

    def _trim(self, offsets: Offsets) -> None:
        for (topic, partition), offset in offsets.items():
            if topic != FUNCTIONS:
                self.journal.trim(topic, partition, offset)

    def _check_epoch(self) -> None:
        if self.journal.producers.get(self._producer) != self._epoch:
            raise Fenced(f"shard {self._shard} has a newer owner")

    async def close(self) -> None:
        """Stop listening for new records."""
        self.journal.notifications.remove(self.notification)


class Tables(Protocol):
    """The rows of tables in a journal's database, ordered by key."""

    def get(self, key: bytes) -> bytes | None:
        """Return the value under `key`."""

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Return the pairs whose keys start with `prefix` and follow `after`, in order, at most `limit` (0: all)."""

    def last(self, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the last pairs whose keys start with `prefix`, in order, at most `limit`."""


class DeferredLog(EmbeddedLog):
    """The log of a shard whose tables are in the journal's database: the store writes its transaction with the rows."""

    async def send(self, records: Sequence[NewRecord], rows: Sequence[StoredRow]) -> None:
        """Stage records. The store makes rows durable, so there is no changelog."""
        await super().send(records, rows[:0])

    async def commit(self, offsets: Offsets) -> int:
        """Keep the offsets until the store writes the transaction."""
        self._check_epoch()
        self._offsets = offsets
        return 0

    def write_staged(self, rows: Sequence[StoredRow]) -> None:
        """Write the staged transaction together with `rows`, atomically."""
        self._staged.rows = list(rows)
        self.journal.write(self._staged, self.clock.now_ms())
        self._trim(self._offsets)


class EmbeddedStore:
    """The tables of a shard in the journal's database.

    The log only stages a transaction. The write of the store commits it: rows, outputs and offsets in one atomic write.
    """

    def __init__(self, tables: Tables, log: DeferredLog) -> None:
        self._tables = tables
        self._log = log

    def open(self) -> int:
        """Return 0: there is no changelog."""
        return 0

    def get(self, key: bytes) -> bytes | None:
        """Return the value under `key`."""
        return self._tables.get(key)

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Return the pairs whose keys start with `prefix` and follow `after`, in order."""
        return self._tables.scan(prefix, limit, after)

    def last(self, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the last pairs whose keys start with `prefix`, in order, at most `limit`."""
        return self._tables.last(prefix, limit)

    def write(self, rows: Sequence[StoredRow], position: int) -> None:
        """Write rows and the staged transaction atomically."""
        if position != 0:
            raise ValueError(f"an embedded store has no changelog, but was given the changelog position {position}")
        self._log.write_staged(rows)

    def discard(self) -> None:
        """Raise StoreError: these tables are the only copy of their rows."""
        raise StoreError("an embedded store has no changelog from which it could be rebuilt")

    def set_aside(self) -> str:
        """Raise StoreError: no other changelog can be in their journal."""
        raise StoreError("an embedded store has no changelog from which it could be rebuilt")

    def close(self) -> None:
        """Do nothing: the journal closes the database."""


class EmbeddedBackbone:
    """The backbone of one process: a journal on disk that has the tables too, or a journal and tables in memory."""

    def __init__(
        self,
        journal: MemoryJournal | RocksJournal,
        clock: Clock,
        shards: int = 1,
        sync_read_model: Callable[[], None] | None = None,
    ) -> None:
        self.journal = journal
        self._sync_read_model = sync_read_model
        self._clock = clock
        self._shards = shards
        self._stores = {shard: MemoryStore() for shard in range(shards)}
        self._logs: dict[int, EmbeddedLog] = {}
        self._worker_logs: dict[str, EmbeddedWorkerLog] = {}
        self.live = LiveMemory(clock, shards)
        self._history_changed = Notification()
        self._history_read: dict[int, int] = {}
        self._history_dropped: dict[int, int] = {}
        journal.notifications.add(HISTORY, self._history_changed)

    def shard_ports(self, shard: int) -> tuple[Log, Store]:
        """Return new ports for a shard."""
        if isinstance(self.journal, RocksJournal):
            deferred = DeferredLog(self.journal, self._clock, shard)
            self._logs[shard] = deferred
            return deferred, EmbeddedStore(self.journal, deferred)
        self._logs[shard] = EmbeddedLog(self.journal, self._clock, shard)
        return self._logs[shard], self._stores[shard]

    def worker_log(self, app: str) -> EmbeddedWorkerLog:
        """Return a new log for the workers of an app or queue."""
        self._worker_logs[app] = EmbeddedWorkerLog(self.journal, self._clock, app, self._shards)
        return self._worker_logs[app]

    def store_of(self, shard: int) -> MemoryStore:
        """Return the tables of a shard whose journal is in memory."""
        return self._stores[shard]

    async def append(self, records: Sequence[NewRecord]) -> list[tuple[int, int]]:
        """Append records atomically."""
        written = self.journal.write(JournalWrite(list(records)), self._clock.now_ms())
        await self.journal.syncing.until_synced()
        return written

    def after_commit(self, callback: Callable[[], object]) -> None:
        """Call `callback` once all that shards have committed is durable, maybe at once; after a failure never."""
        self.journal.syncing.after(lambda error: error or callback())

    async def functions(self) -> list[bytes]:
        """Return the records of `functions`, oldest first."""
        return [record.value for record in self.journal.read(FUNCTIONS, 0, 0, self.journal.end(FUNCTIONS, 0))]

    async def history(self, position: Callable[[int], int]) -> AsyncIterator[list[LogRecord]]:
        """Yield the records of `history`, and drop those that were processed."""
        self._history_read = {partition: position(partition) for partition in range(self.journal.partitions)}
        for partition, read in self._history_read.items():
            if read > self.journal.end(HISTORY, partition):
                # A power failure has left more of the read model than of the journal.
                self.journal.skip_to(HISTORY, partition, read)
        while True:
            for partition, read in self._history_read.items():
                while records := self.journal.read(HISTORY, partition, read, _HISTORY_PER_READ):
                    await self.journal.syncing.until_synced()
                    yield records
                    read = records[-1].offset + 1
                    self._history_read[partition] = read
                    self._drop_history(partition, read)
                    if len(records) == _HISTORY_PER_READ:
                        await asyncio.sleep(0)  # A backlog is read without waiting; other tasks must run in between.
            await self._history_changed.wait()
            # Entries of several partitions that were read together would not be in the order of their writes.
            if self.journal.partitions == 1:
                await self._gather_history()

    def _drop_history(self, partition: int, read: int) -> None:
        """Drop what the read model has, once it is much, and its tables have reached the disk if they must."""
        if read - self._history_dropped.get(partition, 0) >= _HISTORY_PER_DROP:
            if self._sync_read_model:
                self._sync_read_model()
            self.journal.trim(HISTORY, partition, read)
            self._history_dropped[partition] = read

    async def _gather_history(self) -> None:
        """Return when `history` has had no new record for a few iterations of the event loop, or after 5 ms.

        The read model then writes the entries of a short run in one transaction. One for each entry took about a fifth
        of the time of an idle run. The next entry of a run follows within four iterations, unless a body takes
        longer.
        """
        until_ms, idle = self._clock.now_ms() + _GATHER_MS_MAX, 0
        for _ in range(_GATHER_ITERATIONS_MAX):
            await asyncio.sleep(0)
            idle = 0 if self._history_changed.take() else idle + 1
            if idle == _IDLE_ITERATIONS or self._clock.now_ms() >= until_ms:
                return

    def input_lags(self) -> dict[tuple[str, int], int]:
        """Return the lag of each input of the shards and of the read model, in records."""
        lags = {(topic, shard): lag for shard, log in self._logs.items() for topic, lag in log.lags().items()}
        return lags | {(HISTORY, at): self.journal.end(HISTORY, at) - read for at, read in self._history_read.items()}

    def command_lags(self) -> list[tuple[str, int, int]]:
        """Return app, partition and lag in commands of each worker's partitions."""
        return [(app, at, lag) for app, log in self._worker_logs.items() for at, lag in log.lags().items()]

    async def is_idle(self) -> bool:
        """Return whether all shards and workers wait and every record was read."""
        return (
            not any(log.unread() for log in self._worker_logs.values())
            and not any(log.unread() or not log.notification.waited_for for log in self._logs.values())
            and all(self.journal.end(HISTORY, at) == read for at, read in self._history_read.items())
        )

    async def close(self) -> None:
        """Close the journal."""
        self.journal.close()
