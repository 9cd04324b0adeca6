"""What is kept in RocksDB: the journal of one process with its tables, and the tables of a shard of their own."""

import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
from rocksdict import Options, Rdict, ReadOptions, WriteBatch, WriteOptions

from stepstream.contract.errors import StepstreamError
from stepstream.runtime.ports import LogRecord, StoredRow, StoreError
from stepstream.runtime.storage.journal import JournalWrite, Notifications, choose_partition

logger = logging.getLogger(__name__)
_LOG, _OFFSET, _END, _ROW, _MARK = b"l", b"o", b"e", b"r", b"m"
_TRIM_RECORDS = 1_000
# Tables that are eaten from the front: a scan starts at the first row, not at the deleted ones before it.
_QUEUES = frozenset((_ROW + b"t",))
Headers = tuple[tuple[str, bytes], ...]
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[int, bytes, bytes, Headers]).decode
_unpack_mark = msgspec.msgpack.Decoder(tuple[int, int]).decode


def _is_spoiled(error: Exception) -> bool:
    """Tell whether a database is broken, or some of its files are gone; what else a disk refuses may pass."""
    text = str(error)
    return text.startswith("Corruption") or (text.startswith("IO error") and "No such file" in text)


def _remove(path: Path) -> None:
    """Take a database away, first from its place, so that a removal that is cut short leaves nothing to be opened."""
    gone = _gone(path)
    shutil.rmtree(gone, ignore_errors=True)
    if path.exists():
        path.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)


def _gone(path: Path) -> Path:
    return path.with_name(f"{path.name}.removed")


class InUseError(StepstreamError):
    """Another process has the data directory open."""

    code = "data-in-use"


def _place(topic: str, partition: int) -> bytes:
    return topic.encode() + b"\x00" + partition.to_bytes(4, "big")


def _after(prefix: bytes) -> bytes:
    """Return the first key that no longer begins with `prefix`."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1])


class _Database:
    """A RocksDB of ours: bounded scans, and rows that go with a batch."""

    def __init__(self, path: Path, *, durable: bool = False) -> None:
        path.mkdir(parents=True, exist_ok=True)
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_keep_log_file_num(2)
        options.set_max_background_jobs(2)
        try:
            self._db = Rdict(str(path), options)
        except Exception as error:
            # That of a bad block has the word, too.
            if _is_spoiled(error) or "lock" not in str(error).lower():
                raise
            raise InUseError(
                f"{path} is in use by another process; stop that one, or give another --data-dir"
            ) from None
        self._write_options = WriteOptions()
        self._write_options.sync = durable
        self._fronts: dict[bytes, bytes] = {}

    def read(self, key: bytes) -> bytes | None:
        """Return what is under a key of the database."""
        value = self._db.get(key)
        return None if value is None else bytes(value)

    def range(self, prefix: bytes, start: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Yield what begins with `prefix`, from `start` on."""
        # Without the bound a seek at the end of a range wades through the deleted rows behind it.
        options = ReadOptions()
        options.set_iterate_upper_bound(_after(prefix))
        rows = self._db.iter(options)
        rows.seek(start)
        while rows.valid():
            yield rows.key(), rows.value()
            rows.next()
        rows.status()  # One that cannot read on looks like one at its end.

    def put_rows(self, batch: WriteBatch, rows: Sequence[StoredRow]) -> None:
        """Add rows of tables to a batch (None: delete)."""
        for row_key, value in rows:
            key = _ROW + row_key
            if value is None:
                batch.delete(key)
                continue
            batch.put(key, value)
            if key < self._fronts.get(key[:2], b""):
                self._fronts[key[:2]] = key

    def write(self, batch: WriteBatch) -> None:
        """Write a batch as one."""
        self._db.write(batch, self._write_options)

    def get(self, key: bytes) -> bytes | None:
        """Return a row of the tables."""
        return self.read(_ROW + key)

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Return the rows whose keys begin with `prefix`, in order, at most `limit` (0: all), those after a key."""
        start = _ROW + prefix
        found: list[tuple[bytes, bytes]] = []
        for key, value in self.range(start, _ROW + after + b"\x00" if after else self._fronts.get(start, start)):
            found.append((key[1:], value))
            if len(found) == limit:
                break
        if start in _QUEUES and not after:
            self._fronts[start] = _ROW + found[0][0] if found else start + b"\xff"
        return found

    def close(self) -> None:
        """Close the database."""
        self._db.close()


class RocksStore:
    """The tables of one shard, with the position of the changelog that they reflect.

    Tables that were left for longer than `stale_ms` are thrown away when they are opened: by then the changelog may
    have forgotten a deletion that they never saw. So are those that a disk has spoiled: the changelog has all of them.
    """

    def __init__(self, path: Path, now_ms: Callable[[], int], stale_ms: int) -> None:
        self._path = path
        self._now_ms = now_ms
        self._stale_ms = stale_ms
        self._db: _Database | None = None
        self._spoiled = False

    def open(self) -> int:
        """Open the tables; return the changelog position that they reflect."""
        shutil.rmtree(_gone(self._path), ignore_errors=True)
        try:
            return self._open()
        except Exception as error:
            if not _is_spoiled(error):
                raise
            logger.exception("the tables in %s are spoiled, and are made anew from the changelog", self._path)
            self._spoiled = True
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
        """Return the pairs whose keys begin with `prefix`, in order, at most `limit` (0: all), those after a key."""
        try:
            return self._opened().scan(prefix, limit, after)
        except Exception as error:
            self._note(error)
            raise

    def _note(self, error: Exception) -> None:
        self._spoiled = self._spoiled or _is_spoiled(error)

    def write(self, rows: Sequence[StoredRow], position: int) -> None:
        """Write rows (None: delete) and position as one."""
        database = self._opened()
        batch = WriteBatch(raw_mode=True)
        database.put_rows(batch, rows)
        batch.put(_MARK, _pack((position, self._now_ms())))
        try:
            database.write(batch)
        except Exception as error:
            # What it meets while it puts files together, in its own time, is told to whoever writes next.
            self._note(error)
            raise

    def discard(self) -> None:
        """Throw the tables away, and begin with empty ones."""
        self._spoiled = True
        self.close()
        self._open()

    def close(self) -> None:
        """Close the tables and let go of their lock; spoiled ones are thrown away."""
        database, self._db = self._db, None
        try:
            if database is not None:
                database.close()
        except Exception as error:
            self._note(error)
            if not self._spoiled:
                raise
            logger.exception("the tables in %s are spoiled, and are made anew from the changelog", self._path)
        finally:
            del database  # Their lock goes with it, also where they could not be closed.
            if self._spoiled:
                _remove(self._path)
                self._spoiled = False


class RocksJournal:
    """A journal that survives the death of its process at any moment; `durable` also a power cut, at a price.

    A write is in the operating system's hands when it returns; `durable` waits for the disk as well.
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
        """Write all or nothing; return (partition, offset) of each record."""
        batch = WriteBatch(raw_mode=True)
        places: list[tuple[int, int]] = []
        ends: dict[tuple[str, int], int] = {}
        for record in write.records:
            partition = choose_partition(record, self.partitions)
            at = (record.topic, partition)
            offset = ends[at] if at in ends else self.end(*at)
            ends[at] = offset + 1
            key = _LOG + _place(*at) + offset.to_bytes(8, "big")
            batch.put(key, _pack((timestamp, record.key, record.value, record.headers)))
            places.append((partition, offset))
        for at, end in ends.items():
            batch.put(_END + _place(*at), end.to_bytes(8, "big"))
        for group, offsets in write.offsets.items():
            for at, offset in offsets.items():
                batch.put(_OFFSET + group.encode() + b"\x00" + _place(*at), offset.to_bytes(8, "big"))
        self._db.put_rows(batch, write.rows)
        self._db.write(batch)
        self._ends.update(ends)
        for group, offsets in write.offsets.items():
            for (topic, partition), offset in offsets.items():
                self._committed[group, topic, partition] = offset
        self.notifications.notify({topic for topic, _ in ends})
        return places

    def read(self, topic: str, partition: int, offset: int, limit: int) -> list[LogRecord]:
        """Return up to `limit` records from `offset` on."""
        end = self.end(topic, partition)
        if offset >= end or limit <= 0:
            return []
        prefix = _LOG + _place(topic, partition)
        cut = len(prefix)
        found: list[LogRecord] = []
        for key, value in self._db.range(prefix, prefix + offset.to_bytes(8, "big")):
            timestamp, record_key, payload, headers = _unpack(value)
            at = int.from_bytes(key[cut:], "big")
            found.append(LogRecord(topic, partition, at, record_key, payload, headers, timestamp))
            if len(found) == limit:
                break
        return found

    def end(self, topic: str, partition: int) -> int:
        """Return the offset that the next record of the partition gets."""
        at = (topic, partition)
        if at not in self._ends:
            value = self._db.read(_END + _place(topic, partition))
            self._ends[at] = int.from_bytes(value, "big") if value else 0
        return self._ends[at]

    def committed(self, group: str, topic: str, partition: int) -> int:
        """Return the committed offset of a group, 0 when it has none."""
        at = (group, topic, partition)
        if at not in self._committed:
            value = self._db.read(_OFFSET + group.encode() + b"\x00" + _place(topic, partition))
            self._committed[at] = int.from_bytes(value, "big") if value else 0
        return self._committed[at]

    def trim(self, topic: str, partition: int, before: int) -> None:
        """Drop the records before an offset, some at a time: nobody reads them any more."""
        at = (topic, partition)
        first = self._trimmed.get(at, 0)
        if before - first < _TRIM_RECORDS:
            return
        prefix = _LOG + _place(topic, partition)
        batch = WriteBatch(raw_mode=True)
        batch.delete_range(prefix + first.to_bytes(8, "big"), prefix + before.to_bytes(8, "big"))
        self._db.write(batch)
        self._trimmed[at] = before

    def get(self, key: bytes) -> bytes | None:
        """Return a row of the tables."""
        return self._db.get(key)

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Return the rows whose keys begin with `prefix`, in order, at most `limit` (0: all), those after a key."""
        return self._db.scan(prefix, limit, after)

    def close(self) -> None:
        """Close the database."""
        self._db.close()
