"""The read model: history folded into SQLite, which answers where a run is and what it waits for."""

import functools
import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec

from stepstream.contract.history import HistoryEntry, decode_history
from stepstream.contract.kinds import OPEN_RUN_STATUSES
from stepstream.runtime.ports import LogRecord, StoreError
from stepstream.runtime.readmodel.folding import apply
from stepstream.runtime.readmodel.pruning import Retention, drop_slice, limit_of, return_free_pages, used_bytes
from stepstream.runtime.readmodel.recorded import RecordedRun, recorded_run
from stepstream.runtime.readmodel.schema import SCHEMA, VERSION
from stepstream.runtime.readmodel.stats import FunctionStats, RunStats
from stepstream.runtime.readmodel.views import (
    RUN_COLUMNS,
    RunSummary,
    RunView,
    UnreadableRuns,
    json_of,
    step_of,
    summary_of,
)
from stepstream.runtime.storage.failures import describe_failure

logger = logging.getLogger(__name__)
# The file of a data directory that has the read model.
RUNS_FILE = "runs.sqlite"
# How many characters of a run id `stepstream dev` prints.
TAIL_CHARACTERS = 6
_WHOLE = RUN_COLUMNS.replace("run_id", "runs.run_id").replace("events, error", "run_texts.events, run_texts.error")
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
        self._rebuilding = False
        self.skipped = 0
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
        self._rebuilding = True

    @contextmanager
    def _checked(self) -> Iterator[None]:
        """Raise StoreError if the tables cannot be used; replace them if they turn out to be corrupt."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if _name_of(error).startswith(_CORRUPT):
                self._db.close()
                self._set_aside(error)
                raise StoreError("the read model was corrupt; it is rebuilt from history") from error
            if _is_disk_failure(error):
                raise StoreError(describe_failure(f"the list of runs in {self._path}", error)) from error
            raise

    def position(self, topic: str, partition: int) -> int:
        """Return the offset of the first record that is not folded yet."""
        self._rebuilding = False
        query = "SELECT offset FROM positions WHERE topic = ? AND partition = ?"
        with self._checked():
            row = self._db.execute(query, (topic, partition)).fetchone()
        return int(row[0]) if row else 0

    def fold(self, records: Sequence[LogRecord]) -> list[HistoryEntry]:
        """Fold records of `history` and store the position after them, atomically; return their entries.

        A record that cannot be decoded is skipped. Raise StoreError if the tables were replaced since `position` was
        called: history must be read again from there.
        """
        if self._rebuilding:
            raise StoreError("the read model was replaced, and must be read from its first position")
        with self._checked():
            entries = self._fold(records)
            self._latest = max(self._latest, records[-1].timestamp)
        return entries

    def _fold(self, records: Sequence[LogRecord]) -> list[HistoryEntry]:
        skipped = set[LogRecord]()
        while True:
            try:
                with self._transaction():
                    return self._fold_all(records, skipped)
            except _NotFolded as error:
                # The transaction is rolled back; the other records are folded again without this one.
                skipped.add(error.record)
                self._skip(error.record, error.__cause__)

    def _fold_all(self, records: Sequence[LogRecord], skipped: set[LogRecord]) -> list[HistoryEntry]:
        entries: list[HistoryEntry] = []
        for record in records:
            if record in skipped:
                continue
            try:
                entry = decode_history(record.value)
            except _UNREADABLE as error:
                skipped.add(record)
                self._skip(record, error)
                continue
            try:
                apply(self._db, entry)
            except _UNREADABLE as error:
                raise _NotFolded(record) from error
            entries.append(entry)
        positions = {(record.topic, record.partition): record.offset + 1 for record in records}
        self._db.executemany(
            "INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", [(*at, offset) for at, offset in positions.items()]
        )
        return entries

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
        conditions, values = ["1"], list[Any]()
        for name, value in (("function", function), ("status", status)):
            if value:
                conditions.append(f"{name} = ?")
                values.append(value)
        if event_id:
            conditions.append("run_id IN (SELECT run_id FROM run_events WHERE event_id = ?)")
            values.append(event_id)
        if tail:
            conditions.append("substr(run_id, -6) = substr(?, -6) AND substr(run_id, -length(?)) = ?")
            values += [tail, tail, tail]
        if before:
            conditions.append("run_id < ?")
            values.append(before)
        where = " AND ".join(conditions)
        query = f"SELECT {RUN_COLUMNS} FROM runs WHERE {where} ORDER BY run_id DESC LIMIT ?"  # noqa: S608 - only fixed names
        with self._checked():
            return [RunSummary(**summary_of(row)) for row in self._db.execute(query, (*values, limit))]

    def show(self, run_id: str) -> RunView | None:
        """Return one run with its steps in order."""
        query = f"SELECT {_WHOLE}, rerun, output FROM runs JOIN run_texts USING (run_id) WHERE runs.run_id = ?"  # noqa: S608 - only fixed names
        with self._checked():
            row = self._db.execute(query, (run_id,)).fetchone()
            if row is None:
                return None
            steps = self._db.execute("SELECT * FROM steps WHERE run_id = ? ORDER BY seq", (run_id,)).fetchall()
            origin = "SELECT run_id FROM runs WHERE origin = ? AND origin != '' ORDER BY run_id"
            reruns = tuple(found for (found,) in self._db.execute(origin, (run_id,)))
        shown = tuple(step_of(step) for step in steps)
        return RunView(**summary_of(row), output=json_of(row[-1]), steps=shown, rerun=json_of(row[-2]), reruns=reruns)

    def recorded(self, run_id: str) -> RecordedRun | None:
        """Return what a rerun of a run needs, None if there is no such run."""
        with self._checked():
            return recorded_run(self._db, run_id)

    def awaited_events(self) -> set[str]:
        """Return the names of the events that runs wait for."""
        names = "SELECT DISTINCT detail FROM steps WHERE kind = 'wait' AND status = 'waiting'"
        # The condition of the wait follows the name.
        return {detail.partition(" ")[0] for (detail,) in self._db.execute(names)}

    def counts(self) -> dict[str, int]:
        """Return how many runs there are by status."""
        return dict(self._db.execute("SELECT status, count(*) FROM runs GROUP BY status"))

    def stats(self) -> RunStats:
        """Return the sums of all runs."""
        stats = RunStats(Counter(self.counts()))
        stats.steps, stats.retries, stats.timeouts = self._db.execute(
            "SELECT count(*) FILTER (WHERE status IN ('completed', 'failed', 'timed_out')), "
            "coalesce(sum(attempts - 1) FILTER (WHERE attempts > 1), 0), "
            "count(*) FILTER (WHERE status = 'timed_out') FROM steps"
        ).fetchone()
        totals = "SELECT function, count(*), sum(ended_at - started_at) FROM runs WHERE ended_at > 0 GROUP BY function"
        stats.functions = {name: FunctionStats(runs, total) for name, runs, total in self._db.execute(totals)}
        still = "SELECT run_id, started_at FROM runs WHERE ended_at = 0"
        stats.open = dict(self._db.execute(still).fetchall())
        return stats

    def has_open_runs(self) -> bool:
        """Return whether a run has not ended."""
        query = "SELECT 1 FROM runs WHERE status IN (?, ?) LIMIT 1"
        return self._db.execute(query, OPEN_RUN_STATUSES).fetchone() is not None

    def prune(self) -> int:
        """Delete one slice of what exceeds the retention; return how many rows or pages, 0 if none.

        Runs that have not ended stay, also if they exceed the size of the retention.
        """
        if self._retention is None:
            return 0
        if deleted := self._drop(functools.partial(limit_of, self._db, self._retention, self._latest)):
            return deleted
        size, limit = used_bytes(self._db), self._retention.bytes
        if 0 < limit < size and not self._warned:
            self._warned = True
            kept = "the list of runs has %s bytes of open runs, which are kept; its limit is %s bytes"
            logger.warning(kept, f"{size:,}", f"{limit:,}")
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
        self._db.executescript("PRAGMA auto_vacuum = INCREMENTAL; VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")

    def close(self) -> None:
        """Close the database."""
        self._db.close()


def _name_of(error: sqlite3.DatabaseError) -> str:
    # An error that Python raises by itself has none.
    return getattr(error, "sqlite_errorname", "")


def _is_disk_failure(error: sqlite3.DatabaseError) -> bool:
    """Return whether the tables are intact, but their disk, or the limits or rights of the process, prevent access."""
    return _name_of(error).startswith(_FAILED_DISK)


def _open(path: Path | None, origin: str) -> sqlite3.Connection:
    """Open tables of this version and origin; raise DatabaseError for others."""
    db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
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
