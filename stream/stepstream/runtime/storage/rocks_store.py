"""The tables of one shard in RocksDB."""

import itertools
import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from stepstream.runtime.ports import StoredRow, StoreError
from stepstream.runtime.storage.database import Database, InUseError, is_corruption
from stepstream.runtime.storage.failures import describe_failure, one_line

logger = logging.getLogger(__name__)
_MARK = b"m"
_pack = msgspec.msgpack.Encoder().encode
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
