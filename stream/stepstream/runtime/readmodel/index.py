"""The read model: history folded into SQLite, which answers where a run is and what it waits for."""

import functools
import logging
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from stepstream.contract.bulk import BulkChanged
from stepstream.contract.history import HistoryEntry, decode_history_record
from stepstream.contract.logs import StepLogged, decode_logged
from stepstream.contract.topics import HISTORY, LOGS
from stepstream.runtime.ports import LogRecord, StoreError, TopicPartition
from stepstream.runtime.readmodel import reading
from stepstream.runtime.readmodel.approvals import ApprovalView, find_approval, open_approvals
from stepstream.runtime.readmodel.changes import RunChanges
from stepstream.runtime.readmodel.dialect import SqliteDatabase
from stepstream.runtime.readmodel.error_groups import drop_groups
from stepstream.runtime.readmodel.filters import Filter
from stepstream.runtime.readmodel.folding import Batch
from stepstream.runtime.readmodel.logged_lines import LoggedLine, add_lines, drop_lines, read_lines
from stepstream.runtime.readmodel.pruning import Retention, drop_slice, limit_of, return_free_pages, used_bytes
from stepstream.runtime.readmodel.queries import RunQueries
from stepstream.runtime.readmodel.recorded import RecordedRun, recorded_run
from stepstream.runtime.readmodel.schema import SCHEMA, VERSION
from stepstream.runtime.readmodel.search import list_runs, search
from stepstream.runtime.readmodel.stats import RunStats
from stepstream.runtime.readmodel.views import RunSummary, RunView, UnreadableRuns
from stepstream.runtime.storage.failures import describe_failure

logger = logging.getLogger(__name__)
# The file of a data directory that has the read model.
RUNS_FILE = "runs.sqlite"
_PAGE = 1_000
_CORRUPT = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_FAILED_DISK = ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN")
_UNREADABLE = (msgspec.MsgspecError, UnicodeError, OverflowError, RecursionError)


class _NotFolded(Exception):
    """A record that the tables cannot store."""

    def __init__(self, record: LogRecord) -> None:
        super().__init__(record)
        self.record = record


class RunIndex:
    """Runs and their steps, indexed by run, function, status and event. Folding an entry again changes nothing.

    Tables that are corrupt, of another version, or of another `origin` (other topics) are renamed to `NAME.aside` and
    rebuilt from history. With `keep`, for readers, they stay and UnreadableRuns is raised. `prune` drops the runs
    that exceed `retention`; without it, all are kept.
    """

    def __init__(
        self, path: Path | None = None, *, keep: bool = False, retention: Retention | None = None, origin: str = ""
    ) -> None:
        self._path = path
        self._origin = origin
        self._keep = keep
        self._retention = retention
        # The time of the latest record (Unix ms). Without new ones nothing is dropped for its age.
        self._latest = 0
        self._warned = False
        # The topics that must be read from their first position again.
        self._rebuilding: set[str] = set()
        self.skipped = 0
        # What the last batches changed, for live pages.
        self.changes = RunChanges()
        self._queries = RunQueries(path, lambda: self._db, self._checked)
        try:
            self._db = _open(path, origin)
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
        self._db = _open(self._path, self._origin)
        self._rebuilding = {HISTORY, LOGS}

    @contextmanager
    def _checked(self) -> Iterator[None]:
        """Raise StoreError if the tables cannot be used; replace them if they turn out to be corrupt."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if _name_of(error).startswith(_CORRUPT):
                self._queries.reopen()
                self._db.close()
                self._set_aside(error)
                raise StoreError("the read model was corrupt; it is rebuilt from history") from error
            if _is_disk_failure(error):
                raise StoreError(describe_failure(f"the list of runs in {self._path}", error)) from error
            raise

    def position(self, topic: str, partition: int) -> int:
        """Return the offset of the first record that is not folded yet."""
        self._rebuilding.discard(topic)
        query = 'SELECT "offset" FROM positions WHERE topic = ? AND partition = ?'
        with self._checked():
            row = self._db.execute(query, (topic, partition)).fetchone()
        return int(row[0]) if row else 0

    def fold(self, records: Sequence[LogRecord]) -> list[HistoryEntry]:
        """Fold records of `history` and store the position after them, atomically; return their entries of runs.

        A record that cannot be decoded is skipped. Raise StoreError if the tables were replaced since `position` was
        called: history must be read again from there.
        """
        if HISTORY in self._rebuilding:
            raise StoreError("the read model was replaced, and must be read from its first position")
        with self._checked():
            entries = self._fold(records)
            self._latest = max(self._latest, records[-1].timestamp)
        self.changes.add(entry.run_id for entry in entries)
        return entries

    def _fold(self, records: Sequence[LogRecord]) -> list[HistoryEntry]:
        skipped, singly = set[LogRecord](), False
        while True:
            try:
                with self._transaction():
                    return self._fold_all(records, skipped, singly=singly)
            except _NotFolded as error:
                # The transaction is rolled back; the other records are folded again without this one.
                skipped.add(error.record)
                self._skip(error.record, error.__cause__)
            except _UNREADABLE:
                # A row cannot be stored; written one by one, the record that it is from is known.
                singly = True

    def _fold_all(self, records: Sequence[LogRecord], skipped: set[LogRecord], *, singly: bool) -> list[HistoryEntry]:
        entries: list[HistoryEntry] = []
        batch = Batch(self._db)
        for record in records:
            if record in skipped:
                continue
            try:
                entry = decode_history_record(record.value)
            except _UNREADABLE as error:
                skipped.add(record)
                self._skip(record, error)
                continue
            try:
                batch.apply(entry)
                if singly:
                    batch.write()
                    batch = Batch(self._db)
            except _UNREADABLE as error:
                raise _NotFolded(record) from error
            if not isinstance(entry, BulkChanged):
                entries.append(entry)
        batch.write()
        self._note({(record.topic, record.partition): record.offset + 1 for record in records})
        return entries

    def fold_logs(self, records: Sequence[LogRecord]) -> None:
        """Add records of `logs`, and store the position after them; otherwise as `fold`."""
        if LOGS in self._rebuilding:
            raise StoreError("the read model was replaced, and must be read from its first position")
        entries: list[StepLogged] = []
        for record in records:
            try:
                entries.append(decode_logged(record.value))
            except _UNREADABLE as error:
                self._skip(record, error)
        positions = {(record.topic, record.partition): record.offset + 1 for record in records}
        self.add_logs(entries, positions)

    def add_logs(self, entries: Sequence[StepLogged], positions: Mapping[TopicPartition, int] | None = None) -> None:
        """Add what runs logged."""
        with self._checked(), self._transaction():
            add_lines(self._db, entries)
            self._note(positions or {})
        self.changes.add(entry.run_id for entry in entries)

    def _note(self, positions: Mapping[TopicPartition, int]) -> None:
        upsert = (
            "INSERT INTO positions VALUES (?, ?, ?) "
            'ON CONFLICT (topic, partition) DO UPDATE SET "offset" = excluded."offset"'
        )
        self._db.executemany(upsert, [(*at, offset) for at, offset in positions.items()])

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # SQLite may have rolled back already, if the tables are corrupt or the disk is full.
            with suppress(sqlite3.DatabaseError):
                self._db.execute("ROLLBACK")
            raise

    def _skip(self, record: LogRecord, error: BaseException | None) -> None:
        self.skipped += 1
        origin = f"{record.topic}-{record.partition}-{record.offset}"
        reason = record.unreadable.reason if record.unreadable else error
        logger.error("read model skipped record %s, which cannot be decoded: %s", origin, reason)

    def find(self, filter: Filter, limit: int) -> list[RunSummary]:
        """Return the newest runs of a filter, however many must be examined; a limit of 0 returns all."""
        found: list[RunSummary] = []
        now_ms, before = round(time.time() * 1_000), ""
        while True:
            size = _PAGE if not limit else min(limit - len(found), _PAGE)
            with self._checked():
                page = search(self._db, filter, now_ms, before=before, limit=size)
            found += page.runs
            before = page.next
            if not before or len(found) == limit:
                return found

    def list(
        self,
        *,
        function: str = "",
        status: str = "",
        event_id: str = "",
        tail: str = "",
        before: str = "",
        limit: int = 50,
    ) -> list[RunSummary]:
        """Return runs, newest first: those before the run id `before`, and whose id ends with `tail` (6 or more)."""
        values = {"function": function, "status": status, "event_id": event_id, "run_id": tail}
        with self._checked():
            return list_runs(self._db, Filter().having_all(values), before, limit)

    @property
    def queries(self) -> RunQueries:
        """Queries that do not hold up the event loop."""
        return self._queries

    def show(self, run_id: str) -> RunView | None:
        """Return one run with its steps in order."""
        with self._checked():
            return reading.show(self._db, run_id)

    def logs(self, run_id: str, *, step: str | None = None, limit: int = 1_000) -> Sequence[LoggedLine]:
        """Return lines that a run logged, or one step of it, in order of time."""
        with self._checked():
            return read_lines(self._db, run_id, step=step, limit=limit)

    def recorded(self, run_id: str) -> RecordedRun | None:
        """Return what a rerun of a run needs, None if there is no such run."""
        with self._checked():
            return recorded_run(self._db, run_id)

    def open_approvals(self, limit: int = 1_000) -> Sequence[ApprovalView]:
        """Return the approvals that wait for a decision, the oldest first."""
        with self._checked():
            return open_approvals(self._db, limit)

    def approval(self, run_id: str, step: str) -> ApprovalView | None:
        """Return what a step asks or asked a person, None if it asked nothing."""
        with self._checked():
            return find_approval(self._db, run_id, step)

    def awaited_events(self) -> set[str]:
        """Return the names of the events that runs wait for."""
        return reading.awaited_events(self._db)

    def counts(self) -> dict[str, int]:
        """Return how many runs there are by status."""
        return reading.counts(self._db)

    def stats(self) -> RunStats:
        """Return the sums of all runs."""
        return reading.stats(self._db)

    def has_open_runs(self) -> bool:
        """Return whether a run has not ended."""
        return reading.has_open_runs(self._db)

    def prune(self) -> int:
        """Delete one slice of what exceeds the retention; return how many rows or pages, 0 if none.

        Runs that have not ended stay, also if they exceed the size of the retention.
        """
        if self._retention is None:
            return 0
        if deleted := self._drop(functools.partial(limit_of, self._db, self._retention, self._latest)):
            return deleted
        with self._checked(), self._transaction():
            drop_groups(self._db, self._latest - self._retention.ms)
            if dropped := drop_lines(self._db, self._latest):
                return dropped
        size, limit = used_bytes(self._db), self._retention.bytes
        if 0 < limit < size and not self._warned:
            self._warned = True
            kept = "the list of runs has %s bytes of open runs, which are kept; its limit is %s bytes"
            logger.warning(kept, f"{size:,}", f"{limit:,}")
        with self._checked():
            return return_free_pages(self._db)

    def drop(self, ended_before: int) -> int:
        """Delete one slice of the runs that ended before a time (Unix ms); return how many rows, 0 if none is left."""
        return self._drop(lambda: ended_before)

    def _drop(self, ended_before: Callable[[], int]) -> int:
        with self._checked(), self._transaction():
            return drop_slice(self._db, ended_before)

    def ended(self, before: int) -> int:
        """Return how many runs ended before a time (Unix ms)."""
        query = "SELECT count(*) FROM runs WHERE ended_at > 0 AND ended_at < ?"
        return int(self._db.execute(query, (before,)).fetchone()[0])

    def compact(self) -> None:
        """Rewrite the file without its free pages; this takes time and space in proportion to its size."""
        with self._checked():
            self._db.executescript("PRAGMA auto_vacuum = INCREMENTAL; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")

    def close(self) -> None:
        """Close the database."""
        self._queries.close()
        self._db.close()


def _name_of(error: sqlite3.DatabaseError) -> str:
    # An error that Python raises by itself has none.
    return getattr(error, "sqlite_errorname", "")


def _is_disk_failure(error: sqlite3.DatabaseError) -> bool:
    """Return whether the tables are intact, but their disk, or the limits or rights of the process, prevent access."""
    return _name_of(error).startswith(_FAILED_DISK)


def _open(path: Path | None, origin: str) -> SqliteDatabase:
    """Open tables of this version and origin; raise DatabaseError for others."""
    db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False, factory=SqliteDatabase)
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        (tables,) = db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and version != VERSION:
            raise sqlite3.DatabaseError(f"its tables are of version {version}, not {VERSION}")
        # Pages of dropped runs can then be returned to the disk; it has no effect on tables that exist.
        settings = "PRAGMA auto_vacuum = INCREMENTAL; PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;"
        db.executescript(settings + SCHEMA)
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
