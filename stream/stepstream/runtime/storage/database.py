"""A RocksDB database: rows and other keys, with bounded scans."""

from collections.abc import Sequence
from pathlib import Path

from rocksdict import BlockBasedOptions, DBRecoveryMode, Options, Rdict, ReadOptions, WriteBatch

from stepstream.contract.errors import StepstreamError
from stepstream.runtime.ports import StoredRow
from stepstream.runtime.storage.journal import key_after
from stepstream.runtime.storage.manifest import CorruptError, Manifest

_ROW = b"r"
# Tables whose rows are deleted from the front: a scan starts at the first live row, not at the deleted ones before it.
_QUEUES = frozenset((_ROW + b"t",))
# Only the process's own user may read rows, also in a folder that existed and is open to others.
_MODE = 0o700
# About one read in a hundred of a key that a file does not have reads a block of it (bits for each key in memory).
_FILTER_BITS = 10
# What the message for a lock that this or another process holds contains.
_LOCKED = ("lock hold by current process", "LOCK: Resource temporarily unavailable")


def is_corruption(error: Exception) -> bool:
    """Return whether a database is corrupt or files are missing; other I/O errors may be temporary."""
    text = str(error)
    return text.startswith("Corruption") or (text.startswith("IO error") and "No such file" in text)


class InUseError(StepstreamError):
    """Another process uses the data directory."""

    code = "data-in-use"


class Database:
    """A RocksDB database of rows and other keys, with bounded scans; its methods raise the errors of RocksDB.

    A database that does not exist is created, unless `create` is false. A write that a crash cut short at the end of
    the log of writes is dropped. If that log is corrupt before its end, a database that is the `only_copy` is not
    opened; of any other database, everything after the damage is dropped.
    """

    def __init__(self, path: Path, *, only_copy: bool = False, create: bool = True) -> None:
        if not (path / "CURRENT").exists() and (not create or any(path.glob("MANIFEST-*"))):
            # RocksDB would create an empty database in place of this one.
            raise CorruptError("Corruption: the file CURRENT is missing")
        path.mkdir(mode=_MODE, parents=True, exist_ok=True)
        self._manifest = Manifest(path, sync=only_copy)
        self._manifest.check()
        options = Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_keep_log_file_num(2)
        options.set_max_background_jobs(2)
        files = BlockBasedOptions()
        files.set_bloom_filter(_FILTER_BITS, block_based=False)
        options.set_block_based_table_factory(files)
        if only_copy:
            options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
        try:
            self._db = Rdict(str(path), options)
        except Exception as error:
            if any(words in str(error) for words in _LOCKED):
                raise InUseError(
                    f"{path} is in use by another process; stop that process, or use another --data-dir"
                ) from None
            # Each attempt writes one, and only a success deletes old ones: on a full disk they would take the space.
            for log in path.glob("LOG.old.*") if not is_corruption(error) else ():
                log.unlink()
            raise
        self._fronts: dict[bytes, bytes] = {}
        self._manifest.note()

    @staticmethod
    def batch() -> WriteBatch:
        """Return an empty batch for `write`."""
        return WriteBatch(raw_mode=True)

    def read(self, key: bytes) -> bytes | None:
        """Return the value under a key of the database."""
        value = self._db.get(key)
        return None if value is None else bytes(value)

    def range(self, prefix: bytes, start: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Return the pairs whose keys start with `prefix`, from `start` on, at most `limit` (0: all)."""
        # Without the bound, a seek at the end of a range reads through all deleted rows after it.
        options = ReadOptions()
        options.set_iterate_upper_bound(key_after(prefix))
        rows = self._db.iter(options)
        rows.seek(start)
        found: list[tuple[bytes, bytes]] = []
        while rows.valid():
            found.append((rows.key(), rows.value()))
            if len(found) == limit:
                return found
            rows.next()
        rows.status()  # Raises if the iterator failed, which otherwise looks like the end.
        return found

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
        self._manifest.note_write()
        self._db.write(batch)

    def sync(self) -> None:
        """Return once all that was written before is on the disk; other threads may write meanwhile."""
        self._db.flush_wal(True)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of a row."""
        value = self._db.get(_ROW + key)
        return None if value is None else bytes(value)

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Return the rows whose keys start with `prefix` and follow `after`, in order, at most `limit` (0: all)."""
        start = _ROW + prefix
        first = _ROW + after + b"\x00" if after else self._fronts.get(start, start)
        found = [(key[1:], value) for key, value in self.range(start, first, limit)]
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
        self._manifest.note()
