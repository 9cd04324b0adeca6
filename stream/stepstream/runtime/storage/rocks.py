"""RocksDB storage: the journal of one process with its tables, and the tables of a single shard."""

import asyncio
import functools
import itertools
import logging
import math
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import LogError, LogRecord, StoredRow, StoreError
from stepstream.runtime.recurrence import Recurrence
from stepstream.runtime.storage.database import Database, InUseError, is_corruption
from stepstream.runtime.storage.failures import UnusableState, describe_failure, one_line
from stepstream.runtime.storage.journal import JournalWrite, Notifications, choose_partition

logger = logging.getLogger(__name__)
_LOG, _OFFSET, _END, _MARK = b"l", b"o", b"e", b"m"
_TRIM_RECORDS = 1_000
_REOPEN_S, _REOPEN_S_MAX = 0.5, 8.0
Headers = tuple[tuple[str, bytes], ...]
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[int, bytes, bytes, Headers]).decode
_unpack_mark = msgspec.msgpack.Decoder(tuple[int, int]).decode


def _remove(path: Path) -> None:
    """Delete a database; rename it first, so that an interrupted deletion leaves nothing that could be opened."""
    removed = _removed(path)
    shutil.rmtree(removed, ignore_errors=True)
    if path.exists():
        path.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)


def _removed(path: Path) -> Path:
    return path.with_name(f"{path.name}.removed")


@functools.cache
def _partition_key(topic: str, partition: int) -> bytes:
    return topic.encode() + b"\x00" + partition.to_bytes(4, "big")


def _record(topic: str, partition: int, key: bytes, value: bytes) -> LogRecord:
    timestamp, record_key, payload, headers = _unpack(value)
    return LogRecord(topic, partition, int.from_bytes(key[-8:], "big"), record_key, payload, headers, timestamp)


class RocksStore:
    """The tables of one shard, with the changelog position that they reflect.

    Tables that were not written for longer than `stale_ms` are deleted when they are opened: by then the changelog may
    have dropped a deletion that they have not seen. Corrupt tables are deleted too; the changelog has all their rows.
    """

    def __init__(self, path: Path, now_ms: Callable[[], int], stale_ms: int) -> None:
        self._path = path
        self._now_ms = now_ms
        self._stale_ms = stale_ms
        self._db: Database | None = None
        self._corrupt = False
        # Closing fails after a failed write, and would hide its cause.
        self._refuses_writes = False

    def open(self) -> int:
        """Open the tables; return the changelog position that they reflect."""
        shutil.rmtree(_removed(self._path), ignore_errors=True)
        try:
            try:
                return self._open()
            except Exception as error:
                if not is_corruption(error):
                    raise
                self._note(error)
                self.close()
                return self._open()
        except Exception as error:
            raise self._failure(error) from error

    def _open(self) -> int:
        self._db, self._refuses_writes = Database(self._path), False
        mark = self._db.read(_MARK)
        position, written_at = _unpack_mark(mark) if mark else (0, self._now_ms())
        if self._now_ms() - written_at > self._stale_ms:
            self._db.close()
            _remove(self._path)
            self._db, position = Database(self._path), 0
        return position

    def _opened(self) -> Database:
        if self._db is None:
            raise StoreError(f"the tables in {self._path} are not open")
        return self._db

    def get(self, key: bytes) -> bytes | None:
        """Return the value under `key`."""
        try:
            return self._opened().get(key)
        except Exception as error:
            raise self._failure(error) from error

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Return the pairs whose keys start with `prefix` and follow `after`, in order, at most `limit` (0: all)."""
        try:
            return self._opened().scan(prefix, limit, after)
        except Exception as error:
            raise self._failure(error) from error

    def last(self, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the last pairs whose keys start with `prefix`, in order, at most `limit`."""
        try:
            return self._opened().last(prefix, limit)
        except Exception as error:
            raise self._failure(error) from error

    def _note(self, error: Exception) -> None:
        """Note that the tables are corrupt, if they are: then they are deleted when they are closed."""
        if is_corruption(error) and not self._corrupt:
            self._corrupt = True
            words = "tables in %s are corrupt; they are deleted and rebuilt from the changelog: %s"
            logger.error(words, self._path, one_line(error))

    def _failure(self, error: Exception) -> StoreError:
        """Return the error to raise, which says what to do, in place of one of RocksDB."""
        self._note(error)
        if isinstance(error, StoreError):
            return error
        if isinstance(error, InUseError):
            return StoreError(str(error))
        if is_corruption(error):
            return StoreError(f"the tables in {self._path} are corrupt, and are rebuilt from the changelog")
        return StoreError(describe_failure(f"the tables in {self._path}", error))

    def write(self, rows: Sequence[StoredRow], position: int) -> None:
        """Write rows (None: delete) and the changelog position atomically."""
        database = self._opened()
        batch = Database.batch()
        database.put_rows(batch, rows)
        batch.put(_MARK, _pack((position, self._now_ms())))
        try:
            database.write(batch)
        except Exception as error:
            # Corruption that RocksDB finds during a background compaction is raised by the next write.
            self._refuses_writes = True
            raise self._failure(error) from error

    def discard(self) -> None:
        """Delete the tables and open empty ones."""
        self._corrupt = True
        self.close()
        self._open()

    def set_aside(self) -> str:
        """Rename the tables to the first free name of shard-N.aside, shard-N.aside-2, …, and open empty ones."""
        self.close()
        names = itertools.chain([".aside"], (f".aside-{number}" for number in itertools.count(2)))
        aside = next(path for name in names if not (path := Path(f"{self._path}{name}")).exists())
        try:
            self._path.rename(aside)
            self._open()
        except Exception as error:
            raise self._failure(error) from error
        return str(aside)

    def close(self) -> None:
        """Close the tables and release their lock; delete them if they are corrupt."""
        database, self._db = self._db, None
        try:
            if database is not None:
                database.close()
        except Exception as error:
            failure = self._failure(error)
            if not self._corrupt and not self._refuses_writes:
                raise failure from error
        finally:
            del database  # Releases the lock, even if closing failed.
            self._delete_corrupt()

    def _delete_corrupt(self) -> None:
        if self._corrupt:
            try:
                _remove(self._path)
            except OSError as error:
                raise StoreError(describe_failure(f"the tables in {self._path}", error)) from error
            self._corrupt = False


class RocksJournal:
    """A journal that survives a crash of its process at any moment and, with `durable`, a power failure.

    A write has reached the operating system when it returns; with `durable` it waits for the disk, which is slower.
    After a failed write, for example to a full disk, `failure` says why, and every write is refused until the journal
    was opened again (`keep_open`); what was written before can still be read.
    """

    def __init__(self, path: Path, partitions: int = 1, *, durable: bool = False) -> None:
        self._path = path
        self._durable = durable
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
        self._db = Database(self._path, durable=self._durable, only_copy=True, create=create)

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
            self.failure = self._describe(error)
            self._failed.notify()
            raise LogError(self.failure) from error

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
                self._db.close()
        except Exception as error:  # noqa: BLE001 - nothing is lost
            logger.warning("%s", self._describe(error))
        finally:
            self._db = None
