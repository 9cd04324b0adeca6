"""RocksDB storage: the journal of one process with its tables, and the tables of a single shard."""

import functools
import itertools
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
from rocksdict import Options, Rdict, ReadOptions, WriteBatch, WriteOptions

from stepstream.contract.errors import StepstreamError
from stepstream.runtime.ports import LogRecord, StoredRow, StoreError
from stepstream.runtime.storage.journal import JournalWrite, Notifications, choose_partition, key_after

logger = logging.getLogger(__name__)
_LOG, _OFFSET, _END, _ROW, _MARK = b"l", b"o", b"e", b"r", b"m"
_TRIM_RECORDS = 1_000
# Tables whose rows are deleted from the front: a scan starts at the first live row, not at the deleted ones before it.
_QUEUES = frozenset((_ROW + b"t",))
Headers = tuple[tuple[str, bytes], ...]
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[int, bytes, bytes, Headers]).decode
_unpack_mark = msgspec.msgpack.Decoder(tuple[int, int]).decode


def _is_corruption(error: Exception) -> bool:
    """Return whether a database is corrupt or files are missing; other I/O errors may be temporary."""
    text = str(error)
    return text.startswith("Corruption") or (text.startswith("IO error") and "No such file" in text)


def _remove(path: Path) -> None:
    """Delete a database; rename it first, so that an interrupted deletion leaves nothing that could be opened."""
    removed = _removed(path)
    shutil.rmtree(removed, ignore_errors=True)
    if path.exists():
        path.rename(removed)
        shutil.rmtree(removed, ignore_errors=True)


def _removed(path: Path) -> Path:
    return path.with_name(f"{path.name}.removed")


class InUseError(StepstreamError):
    """Another process uses the data directory."""

    code = "data-in-use"


@functools.cache
def _partition_key(topic: str, partition: int) -> bytes:
    return topic.encode() + b"\x00" + partition.to_bytes(4, "big")


class _Database:
    """A RocksDB database with bounded scans."""

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        path.mkdir(parents=True, exist_ok=True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_keep_log_file_num(2)
        options.set_max_background_jobs(2)
        try:
            self._db = Rdict(str(path), options)
        except Exception as error:
            # The error of a corrupt block contains the word "block".
            if _is_corruption(error) or "lock" not in str(error).lower():
                raise
            raise InUseError(
                f"{path} is in use by another process; stop that process, or use another --data-dir"
            ) from None
        self._write_options = WriteOptions()
        self._write_options.sync = durable
        self._fronts: dict[bytes, bytes] = {}

    def read(self, key: bytes) -> bytes | None:
        """Return the value under a key of the database."""
        value = self._db.get(key)
        return None if value is None else bytes(value)

    def range(self, prefix: bytes, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield the pairs whose keys start with `prefix`, from `start` on."""
        # Without the bound, a seek at the end of a range reads through all deleted rows after it.
        options = ReadOptions()
        options.set_iterate_upper_bound(key_after(prefix))
        rows = self._db.iter(options)
        rows.seek(start)
        while rows.valid():
            yield rows.key(), rows.value()
            rows.next()
        rows.status()  # Raises if the iterator failed, which otherwise looks like the end.

    def put_rows(self, batch: WriteBatch, rows: Sequence[StoredRow]) -> None:
        """Add rows to a batch (None: delete)."""
        for row_key, value in rows:
            key = _ROW + row_key
            if value is None:
                batch.delete(key)
                continue
            batch.put(key, value)
            if key < self._fronts.get(key[:2], b""):
                self._fronts[key[:2]] = key

    def write(self, batch: WriteBatch) -> None:
        """Write a batch atomically."""
        self._db.write(batch, self._write_options)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a row."""
        return self.read(_ROW + key)

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Return the rows whose keys start with `prefix` and follow `after`, in order, at most `limit` (0: all)."""
        start = _ROW + prefix
        found: list[tuple[bytes, bytes]] = []
        for key, value in self.range(start, _ROW + after + b"\x00" if after else self._fronts.get(start, start)):
            found.append((key[1:], value))
            if len(found) == limit:
                break
        if start in _QUEUES and not after:
            self._fronts[start] = _ROW + found[0][0] if found else start + b"\xff"
        return found

    def last(self, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the last rows whose keys start with `prefix`, in order, at most `limit`."""
        start = _ROW + prefix
        options = ReadOptions()
        options.set_iterate_upper_bound(key_after(start))
        rows = self._db.iter(options)
        rows.seek_to_last()
        found: list[tuple[bytes, bytes]] = []
        while len(found) < limit and rows.valid() and (key := rows.key()).startswith(start):
            found.append((key[1:], rows.value()))
            rows.prev()
        rows.status()  # Raises if the iterator failed, which otherwise looks like the end.
        return found[::-1]

    def close(self) -> None:
        """Close the database."""
        self._db.close()


class RocksStore:
    """The tables of one shard, with the changelog position that they reflect.

    Tables that were not written for longer than `stale_ms` are deleted when they are opened: by then the changelog may
    have dropped a deletion that they have not seen. Corrupt tables are deleted too; the changelog has all their rows.
    """

    def __init__(self, path: Path, now_ms: Callable[[], int], stale_ms: int) -> None:
        self._path = path
        self._now_ms = now_ms
        self._stale_ms = stale_ms
        self._db: _Database | None = None
        self._corrupt = False

    def open(self) -> int:
        """Open the tables; return the changelog position that they reflect."""
        shutil.rmtree(_removed(self._path), ignore_errors=True)
        try:
            return self._open()
        except Exception as error:
            if not _is_corruption(error):
                raise
            logger.exception("tables in %s are corrupt; they are deleted and rebuilt from the changelog", self._path)
            self._corrupt = True
            self.close()
            return self._open()

    def _open(self) -> int:
        try:
            self._db = _Database(self._path)
            mark = self._db.read(_MARK)
            position, written_at = _unpack_mark(mark) if mark else (0, self._now_ms())
            if self._now_ms() - written_at > self._stale_ms:
                self._db.close()
                _remove(self._path)
                self._db, position = _Database(self._path), 0
        except InUseError as error:
            raise StoreError(str(error)) from error
        return position

    def _opened(self) -> _Database:
        if self._db is None:
            raise StoreError(f"the tables in {self._path} are not open")
        return self._db

    def get(self, key: bytes) -> bytes | None:
        """Return the value under `key`."""
        try:
            return self._opened().get(key)
        except Exception as error:
            self._note(error)
            raise

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Return the pairs whose keys start with `prefix` and follow `after`, in order, at most `limit` (0: all)."""
        try:
            return self._opened().scan(prefix, limit, after)
        except Exception as error:
            self._note(error)
            raise

    def last(self, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the last pairs whose keys start with `prefix`, in order, at most `limit`."""
        try:
            return self._opened().last(prefix, limit)
        except Exception as error:
            self._note(error)
            raise

    def _note(self, error: Exception) -> None:
        self._corrupt = self._corrupt or _is_corruption(error)

    def write(self, rows: Sequence[StoredRow], position: int) -> None:
        """Write rows (None: delete) and the changelog position atomically."""
        database = self._opened()
        batch = WriteBatch(raw_mode=True)
        database.put_rows(batch, rows)
        batch.put(_MARK, _pack((position, self._now_ms())))
        try:
            database.write(batch)
        except Exception as error:
            # Corruption that RocksDB finds during a background compaction is raised by the next write.
            self._note(error)
            raise

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
        self._path.rename(aside)
        self._open()
        return str(aside)

    def close(self) -> None:
        """Close the tables and release their lock; delete them if they are corrupt."""
        database, self._db = self._db, None
        try:
            if database is not None:
                database.close()
        except Exception as error:
            self._note(error)
            if not self._corrupt:
                raise
            logger.exception("tables in %s are corrupt; they are deleted and rebuilt from the changelog", self._path)
        finally:
            del database  # Releases the lock, even if closing failed.
            if self._corrupt:
                _remove(self._path)
                self._corrupt = False


class RocksJournal:
    """A journal that survives a crash of its process at any moment and, with `durable`, a power failure.

    A write has reached the operating system when it returns; with `durable` it waits for the disk, which is slower.
    """

    def __init__(self, path: Path, partitions: int = 1, *, durable: bool = False) -> None:
        self._db = _Database(path, durable=durable)
        self.partitions = partitions
        self.producers: dict[str, int] = {}
        self.notifications = Notifications()
        self._ends: dict[tuple[str, int], int] = {}
        self._trimmed: dict[tuple[str, int], int] = {}
        self._committed: dict[tuple[str, str, int], int] = {}

    def write(self, write: JournalWrite, timestamp: int) -> list[tuple[int, int]]:
        """Write atomically; return (partition, offset) of each record."""
        batch = WriteBatch(raw_mode=True)
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
        self._db.put_rows(batch, write.rows)
        self._db.write(batch)
        self._ends.update(ends)
        for group, offsets in write.offsets.items():
            for (topic, partition), offset in offsets.items():
                self._committed[group, topic, partition] = offset
        self.notifications.notify(dict.fromkeys(topic for topic, _ in ends))
        return written

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[LogRecord]:
        """Return up to `limit` records from `offset` on."""
        at = (topic, partition)
        # Most reads find nothing new, so they do without a call.
        end = self._ends[at] if at in self._ends else self.end(topic, partition)
        if offset >= end or limit <= 0:
            return []
        prefix = _LOG + _partition_key(topic, partition)
        cut = len(prefix)
        found: list[LogRecord] = []
        for key, value in self._db.range(prefix, prefix + offset.to_bytes(8, "big")):
            timestamp, record_key, payload, headers = _unpack(value)
            found_at = int.from_bytes(key[cut:], "big")
            found.append(LogRecord(topic, partition, found_at, record_key, payload, headers, timestamp))
            if len(found) == limit:
                break
        return found

    def end(self, topic: str, partition: int) -> int:
        """Return the offset of the next record of a partition."""
        at = (topic, partition)
        if at not in self._ends:
            value = self._db.read(_END + _partition_key(topic, partition))
            self._ends[at] = int.from_bytes(value, "big") if value else 0
        return self._ends[at]

    def committed(self, group: str, topic: str, partition: int) -> int:
        """Return the committed offset of a group, or 0."""
        at = (group, topic, partition)
        if at not in self._committed:
            value = self._db.read(_OFFSET + group.encode() + b"\x00" + _partition_key(topic, partition))
            self._committed[at] = int.from_bytes(value, "big") if value else 0
        return self._committed[at]

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Drop the records before an offset, in batches; they are not read again."""
        at = (topic, partition)
        first = self._trimmed.get(at, 0)
        if before - first < _TRIM_RECORDS:
            return
        prefix = _LOG + _partition_key(topic, partition)
        batch = WriteBatch(raw_mode=True)
        batch.delete_range(prefix + first.to_bytes(8, "big"), prefix + before.to_bytes(8, "big"))
        self._db.write(batch)
        self._trimmed[at] = before

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a row."""
        return self._db.get(key)

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Return the rows whose keys start with `prefix` and follow `after`, in order, at most `limit` (0: all)."""
        return self._db.scan(prefix, limit, after)

    def last(self, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the last pairs whose keys start with `prefix`, in order, at most `limit`."""
        return self._db.last(prefix, limit)

    def close(self) -> None:
        """Close the database."""
        self._db.close()
