"""The tables of a read model in a file of SQLite, or in memory: one process writes them."""

import logging
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from stepstream.contract.topics import HISTORY, LOGS
from stepstream.runtime.ports import StoreError
from stepstream.runtime.readmodel import queries
from stepstream.runtime.readmodel.dialect import Database, ReadingThreads, SqliteDatabase
from stepstream.runtime.readmodel.pruning import return_free_pages, used_bytes
from stepstream.runtime.readmodel.tables.schema import SCHEMA, VERSION
from stepstream.runtime.readmodel.views import UnreadableRuns
from stepstream.runtime.storage.failures import describe_failure

T = TypeVar("T")
logger = logging.getLogger(__name__)
_THREADS = 2
# Only the process's own user may read runs, also in a folder that existed and is open to others.
_MODE = 0o600
_OPERATIONS_PER_CHECK = 20_000
_CORRUPT = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_FAILED_DISK = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")


class SqliteTables:
    """The tables of the file `path`, in memory without one.

    Tables that are corrupt, of another version, or of another `origin` are renamed to `NAME.aside` and rebuilt from
    history. With `keep`, for readers, they stay and UnreadableRuns is raised. With `is_synced`, a power failure
    does not damage the tables, and they keep everything that was committed before the last `sync`.
    """

    shared = False

    def __init__(self, path: Path | None, *, keep: bool, origin: str, is_synced: bool = False) -> None:
        self._path = path
        self._keep = keep
        self._origin = origin
        self._is_synced = is_synced
        # The topics that must be read from their first position again.
        self._rebuilding: set[str] = set()
        self._readers = ReadingThreads(self._open_reader, _THREADS)
        try:
            self.db = _open(path, origin, is_synced=is_synced)
        except sqlite3.DatabaseError as error:
            self._set_aside(error)

    def _set_aside(self, error: sqlite3.DatabaseError) -> None:
        if _is_disk_failure(error):
            raise UnreadableRuns(describe_failure(f"the list of runs in {self._path}", error)) from error
        if self._path is None or self._keep or isinstance(error, sqlite3.OperationalError):
            remedy = "use another --data-dir, or rename the file: an engine then reads its runs again from `history`"
            raise UnreadableRuns(f"the runs in {self._path} cannot be read ({error}); {remedy}") from error
        logger.error("read model renamed to %s.aside; it is rebuilt from history: %s", self._path, error)
        for end in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{self._path}{end}").replace(f"{self._path}.aside{end}")
        self.db = _open(self._path, self._origin, is_synced=self._is_synced)
        self._rebuilding = {HISTORY, LOGS}

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Raise StoreError if the tables cannot be used; replace them if they turn out to be corrupt."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if _name_of(error).startswith(_CORRUPT):
                self._readers.close()
                self.db.close()
                self._set_aside(error)
                raise StoreError("the read model was corrupt; it is rebuilt from history") from error
            if _is_disk_failure(error):
                raise StoreError(describe_failure(f"the list of runs in {self._path}", error)) from error
            raise

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the changes of the block, all or none of them; otherwise as `checked`."""
        with self.checked():
            self.db.execute("BEGIN")
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
                # SQLite may have rolled back already, if the tables are corrupt or the disk is full.
                with suppress(sqlite3.DatabaseError):
                    self.db.execute("ROLLBACK")
                raise

    def restart(self, topic: str) -> None:
        """Note that a topic is read from its stored positions from now on."""
        self._rebuilding.discard(topic)

    def must_restart(self, topic: str) -> bool:
        """Return whether the tables were replaced since `restart`, so that the topic must be read again."""
        return topic in self._rebuilding

    def publish(self, run_ids: Collection[str]) -> None:
        """Do nothing: no other process reads the tables."""

    async def changed(self) -> AsyncIterator[list[str] | None]:
        """Yield nothing: no other process changes the tables."""
        return
        yield

    async def call(self, work: Callable[[], T]) -> T:
        """Do work that uses `db`."""
        return work()

    async def ask(self, query: Callable[[Database], T]) -> T:
        """Return the answer of a query; of a file, in a thread, so that it sees the last batch that was folded."""
        if self._path is None:
            with self.checked():
                return query(self.db)
        opened = self._readers.opened
        try:
            return await self._readers.ask(lambda db: _answer(db, query))
        except sqlite3.DatabaseError as error:
            if self._readers.opened is not opened:
                raise StoreError("the read model was replaced while it was read; ask again") from error
            with self.checked():
                raise

    def _open_reader(self) -> SqliteDatabase:
        assert self._path is not None
        uri = f"{self._path.absolute().as_uri()}?mode=ro"
        return sqlite3.connect(uri, uri=True, check_same_thread=False, factory=SqliteDatabase)

    def used_bytes(self) -> int:
        """Return the size of the tables, without the free pages of their file."""
        return used_bytes(self.db)

    async def server_bytes(self) -> None:
        """Return None: the tables are in a file."""

    def shrink(self) -> int:
        """Return some free pages to the disk; return how many, 0 if the file has few."""
        with self.checked():
            return return_free_pages(self.db)

    def sync(self) -> None:
        """Write what was committed to the disk, if the tables are synced."""
        if self._is_synced:
            with self.checked():
                self.db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()

    def compact(self) -> None:
        """Rewrite the file without its free pages; this takes time and space in proportion to its size."""
        with self.checked():
            self.db.executescript("PRAGMA auto_vacuum = INCREMENTAL; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")

    def close(self) -> None:
        """Close the file."""
        self._readers.close()
        self.db.close()


def _answer(db: SqliteDatabase, query: Callable[[Database], T]) -> T:
    """Return the answer of a query in its thread; raise QueryTooSlow after its time."""
    deadline = time.perf_counter() + queries.QUERY_S_MAX
    db.set_progress_handler(lambda: time.perf_counter() > deadline, _OPERATIONS_PER_CHECK)
    try:
        return query(db)
    except sqlite3.OperationalError as error:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_INTERRUPT":
            raise queries.QueryTooSlow from None
        raise


def _name_of(error: sqlite3.DatabaseError) -> str:
    # An error that Python raises by itself has none.
    return getattr(error, "sqlite_errorname", "")


def _is_disk_failure(error: sqlite3.DatabaseError) -> bool:
    """Return whether the tables are intact, but their disk, or the limits or rights of the process, prevent access."""
    return _name_of(error).startswith(_FAILED_DISK)


def _open(path: Path | None, origin: str, *, is_synced: bool = False) -> SqliteDatabase:
    """Open tables of this version and origin; raise DatabaseError for others."""
    if path is not None:
        # SQLite gives its other files the rights of this one; it also describes what prevents that there is a file.
        with suppress(OSError):
            path.touch(mode=_MODE)
    db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False, factory=SqliteDatabase)
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and version != VERSION:
            raise sqlite3.DatabaseError(f"its tables are of version {version}, not {VERSION}")
        # Pages of dropped runs can then be returned to the disk; it has no effect on tables that exist.
        level = "NORMAL" if is_synced else "OFF"
        settings = f"PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = {level};"
        db.executescript(f"{settings}{SCHEMA}PRAGMA user_version = {VERSION};")
        if origin:
            known = [value for (value,) in db.execute("SELECT value FROM origin")]
            if tables and known != [origin]:
                raise sqlite3.DatabaseError(
                    "its runs are from other topics: of another namespace, or deleted and recreated"
                )
            if not known:
                db.execute("INSERT INTO origin VALUES (?)", (origin,))
    except BaseException:
        db.close()
        raise
    return db
