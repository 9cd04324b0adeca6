"""The journal of one process, with its tables, in RocksDB."""

import asyncio
import functools
import logging
import math
import time
from pathlib import Path
from typing import Any

import msgspec

from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import LogError, LogRecord, StoreError
from stepstream.runtime.recurrence import Recurrence
from stepstream.runtime.storage.database import Database, InUseError, is_corruption
from stepstream.runtime.storage.failures import UnusableState, describe_failure, one_line
from stepstream.runtime.storage.journal import JournalWrite, Notifications, choose_partition
from stepstream.runtime.storage.syncing import Fsync, Syncing

logger = logging.getLogger(__name__)
_LOG, _OFFSET, _END = b"l", b"o", b"e"
_TRIM_RECORDS = 1_000
_REOPEN_S, _REOPEN_S_MAX = 0.5, 8.0
Headers = tuple[tuple[str, bytes], ...]
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[int, bytes, bytes, Headers]).decode


@functools.cache
def _partition_key(topic: str, partition: int) -> bytes:
    return topic.encode() + b"\x00" + partition.to_bytes(4, "big")


def _record(topic: str, partition: int, key: bytes, value: bytes) -> LogRecord:
    timestamp, record_key, payload, headers = _unpack(value)
    return LogRecord(topic, partition, int.from_bytes(key[-8:], "big"), record_key, payload, headers, timestamp)


class RocksJournal:
    """A journal that survives a crash of its process at any moment, and a power failure as far as `fsync` says.

    A write has reached the operating system when it returns; `syncing` waits until it has reached the disk, too.
    After a failed write, for example to a full disk, `failure` says why, and every write is refused until the journal
    was opened again (`keep_open`); what was written before can still be read.
    """

    def __init__(self, path: Path, partitions: int = 1, *, fsync: Fsync = Fsync.NEVER) -> None:
        self._path = path
        self.syncing = Syncing(fsync, self._sync, self._fail)
        self.partitions = partitions
        self.producers: dict[str, int] = {}
        self.notifications = Notifications()
        self.failure = ""
        self._failed = Notification()
        self._ends: dict[tuple[str, int], int] = {}
        self._trimmed: dict[tuple[str, int], int] = {}
        self._committed: dict[tuple[str, str, int], int] = {}
        self._db: Database | None = None
        try:
            self._open(create=True)
        except InUseError:
            raise
        except Exception as error:
            raise UnusableState(self._describe(error)) from error

    def _open(self, *, create: bool) -> None:
        self._db = Database(self._path, only_copy=True, create=create)

    def _describe(self, error: Exception) -> str:
        if is_corruption(error):
            remedy = "restore the folder from a copy, or rename it to start without its runs"
            return f"the journal in {self._path} is corrupt ({one_line(error)}); {remedy}"
        return describe_failure(f"the journal in {self._path}", error)

    def _opened(self) -> Database:
        if self._db is None:
            raise LogError(self.failure)
        return self._db

    async def keep_open(self) -> None:
        """Open the journal again whenever a write has failed, until cancelled; by itself RocksDB accepts no more."""
        pause_s, recurrence, opened_at = _REOPEN_S, Recurrence(), -math.inf
        while True:
            await self._failed.wait()
            failed_at = time.monotonic()
            # On a disk with hardly any space the journal can be opened, but fails again at once.
            pause_s = _REOPEN_S if failed_at - opened_at > _REOPEN_S_MAX else pause_s
            while self.failure:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _REOPEN_S_MAX)
                self._reopen()
            opened_at = time.monotonic()
            if (more := recurrence.occurs("open")) is not None:
                words = "the journal in %s is open again after %.1f s%s"
                logger.warning(words, self._path, opened_at - failed_at, more)

    def _reopen(self) -> None:
        try:
            # The lock is released with the last reference, even if closing fails, as it does after a failed write.
            self._db = None
            self._open(create=False)
        except Exception as error:  # noqa: BLE001 - the caller tries again
            self.failure = self._describe(error)
            return
        # The outcome of the failed write was unknown.
        for cache in (self._ends, self._committed, self._trimmed):
            cache.clear()
        self.failure = ""
        self.notifications.notify_all()

    def write(self, write: JournalWrite, timestamp: int) -> list[tuple[int, int]]:
        """Write atomically; return (partition, offset) of each record."""
        batch = Database.batch()
        written: list[tuple[int, int]] = []
        ends: dict[tuple[str, int], int] = {}
        for record in write.records:
            partition = choose_partition(record, self.partitions)
            at = (record.topic, partition)
            offset = ends[at] if at in ends else self.end(*at)
            ends[at] = offset + 1
            key = _LOG + _partition_key(*at) + offset.to_bytes(8, "big")
            batch.put(key, _pack((timestamp, record.key, record.value, record.headers)))
            written.append((partition, offset))
        for at, end in ends.items():
            batch.put(_END + _partition_key(*at), end.to_bytes(8, "big"))
        for group, offsets in write.offsets.items():
            for at, offset in offsets.items():
                batch.put(_OFFSET + group.encode() + b"\x00" + _partition_key(*at), offset.to_bytes(8, "big"))
        self._opened().put_rows(batch, write.rows)
        self._write(batch)
        self._ends.update(ends)
        for group, offsets in write.offsets.items():
            for (topic, partition), offset in offsets.items():
                self._committed[group, topic, partition] = offset
        self.notifications.notify({topic: None for topic, _ in ends})
        return written

    def _write(self, batch: Any) -> None:
        if self.failure:
            raise LogError(self.failure)
        try:
            self._opened().write(batch)
        except Exception as error:
            raise self._fail(error) from error
        self.syncing.note()

    def _sync(self) -> None:
        self._opened().sync()

    def _fail(self, error: Exception) -> LogError:
        self.failure = self._describe(error)
        self._failed.notify()
        return LogError(self.failure)

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[LogRecord]:
        """Return up to `limit` records from `offset` on."""
        at = (topic, partition)
        # Most reads find nothing new, so they do without a call.
        end = self._ends[at] if at in self._ends else self.end(topic, partition)
        if offset >= end or limit <= 0:
            return []
        prefix = _LOG + _partition_key(topic, partition)
        first = prefix + offset.to_bytes(8, "big")
        try:
            # An idle engine reads each record alone, and an iterator costs three times as much as the read of a key.
            if offset == end - 1 and (only := self._opened().read(first)) is not None:
                return [_record(topic, partition, first, only)]
            return [_record(topic, partition, *pair) for pair in self._opened().range(prefix, first, limit)]
        except Exception as error:
            raise self._unreadable(LogError, error) from error

    def _unreadable(self, kind: type[LogError | StoreError], error: Exception) -> LogError | StoreError:
        return kind(str(error) if isinstance(error, LogError) else self._describe(error))

    def _number(self, key: bytes) -> int:
        try:
            value = self._opened().read(key)
        except Exception as error:
            raise self._unreadable(LogError, error) from error
        return int.from_bytes(value, "big") if value else 0

    def end(self, topic: str, partition: int) -> int:
        """Return the offset of the next record of a partition."""
        at = (topic, partition)
        if at not in self._ends:
            self._ends[at] = self._number(_END + _partition_key(topic, partition))
        return self._ends[at]

    def committed(self, group: str, topic: str, partition: int) -> int:
        """Return the committed offset of a group, or 0."""
        at = (group, topic, partition)
        if at not in self._committed:
            self._committed[at] = self._number(_OFFSET + group.encode() + b"\x00" + _partition_key(topic, partition))
        return self._committed[at]

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Drop the records before an offset, in batches; they are not read again."""
        at = (topic, partition)
        first = self._trimmed.get(at, 0)
        if before - first < _TRIM_RECORDS:
            return
        prefix = _LOG + _partition_key(topic, partition)
        batch = Database.batch()
        batch.delete_range(prefix + first.to_bytes(8, "big"), prefix + before.to_bytes(8, "big"))
        self._write(batch)
        self._trimmed[at] = before

    def skip_to(self, topic: str, partition: int, offset: int) -> None:
        """Give the next record of a partition this offset, which is higher than its end."""
        batch = Database.batch()
        batch.put(_END + _partition_key(topic, partition), offset.to_bytes(8, "big"))
        self._write(batch)
        self._ends[topic, partition] = offset

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a row."""
        try:
            return self._opened().get(key)
        except Exception as error:
            raise self._unreadable(StoreError, error) from error

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Return the rows whose keys start with `prefix` and follow `after`, in order, at most `limit` (0: all)."""
        try:
            return self._opened().scan(prefix, limit, after)
        except Exception as error:
            raise self._unreadable(StoreError, error) from error

    def last(self, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the last pairs whose keys start with `prefix`, in order, at most `limit`."""
        try:
            return self._opened().last(prefix, limit)
        except Exception as error:
            raise self._unreadable(StoreError, error) from error

    def close(self) -> None:
        """Close the database. All that was written is in its log, so a failure is only reported."""
        try:
            if self._db is not None:
                self.syncing.close()
                self._db.close()
        except Exception as error:  # noqa: BLE001 - nothing is lost
            logger.warning("%s", self._describe(error))
        finally:
            self._db = None
