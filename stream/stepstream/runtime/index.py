"""The read model: history folded into SQLite, for those who ask where a run is and why it waits."""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, assert_never

from stepstream.contract.codec import Json, encode, load_json
from stepstream.contract.errors import StepstreamError
from stepstream.contract.history import (
    HistoryEntry,
    RunAttemptFailed,
    RunBegan,
    RunEnded,
    RunMoved,
    RunWarned,
    StepAttemptFailed,
    StepCancelled,
    StepEnded,
    StepPlanned,
    decode_history,
)
from stepstream.contract.outcomes import Failure, TimedOut, Value
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.tally import FunctionTally, Tally

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT PRIMARY KEY, function TEXT, app TEXT, status TEXT, accepted_at INTEGER, started_at INTEGER,
    ended_at INTEGER, events TEXT, output TEXT, error TEXT, caller TEXT, warnings TEXT, attempt INTEGER,
    retry_at INTEGER, epoch INTEGER, seq INTEGER
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS run_events (event_id TEXT, run_id TEXT, PRIMARY KEY (event_id, run_id)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS steps (
    run_id TEXT, step TEXT, id TEXT, kind TEXT, status TEXT, attempts INTEGER, first_at INTEGER, started_at INTEGER,
    ended_at INTEGER, until INTEGER, detail TEXT, output TEXT, error TEXT, place INTEGER, PRIMARY KEY (run_id, step)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS positions (topic TEXT, partition INTEGER, offset INTEGER, PRIMARY KEY (topic, partition));
CREATE INDEX IF NOT EXISTS runs_by_function ON runs (function, run_id);
CREATE INDEX IF NOT EXISTS runs_by_status ON runs (status, run_id);
CREATE INDEX IF NOT EXISTS runs_by_tail ON runs (substr(run_id, -6));
"""
# What `stepstream dev` prints of a run id.
TAIL_CHARACTERS = 6

_COLUMNS = (
    "run_id, function, app, status, accepted_at, started_at, ended_at, events, error, caller, warnings, attempt, "
    "retry_at, epoch"
)
_SMALL = _COLUMNS.replace(
    "events, error",
    "(SELECT json_group_array(json_remove(value, '$.data', '$.user')) FROM json_each(events)), "
    "json_remove(error, '$.stack')",
)
_NAMES = _COLUMNS.split(", ")


class UnreadableRuns(StepstreamError):
    """The file of the runs is damaged, or is none."""

    code = "unreadable-runs"


@contextmanager
def readable(path: Path | None) -> Iterator[None]:
    """Turn what SQLite says of a file that it cannot read into UnreadableRuns."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        remedy = "give another --data-dir, or put the file aside: an engine reads its runs again from `history`"
        raise UnreadableRuns(f"the runs in {path} cannot be read ({error}); {remedy}") from error


class RunStatus(StrEnum):
    """What a run may be."""

    SCHEDULED, RUNNING, COMPLETED, FAILED, CANCELLED = "scheduled", "running", "completed", "failed", "cancelled"


@dataclass(frozen=True, slots=True)
class StepView:
    """A step of a run: `status` is completed, failed, timed_out, waiting, retrying or cancelled; times in Unix ms."""

    step: str
    id: str
    kind: str
    status: str
    attempts: int
    first_at: int
    started_at: int
    ended_at: int
    until: int
    detail: str
    output: Json
    error: Json


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run as lists have it: `status` is a RunStatus; times in Unix ms, 0 where unknown.

    Lists leave out what may be large: the data of `events`, the stack of `error`, and what only RunView has.
    """

    run_id: str
    function: str
    app: str
    status: str
    accepted_at: int
    started_at: int
    ended_at: int
    events: Json
    error: Json
    caller: str
    warnings: tuple[str, ...]
    attempt: int
    retry_at: int
    epoch: int


@dataclass(frozen=True, slots=True)
class RunView(RunSummary):
    """All of a run."""

    output: Json = None
    steps: tuple[StepView, ...] = field(default=())


class RunIndex:
    """Runs and their steps by run, function, status and event; a repeat of an entry changes nothing."""

    def __init__(self, path: Path | None = None) -> None:
        with ExitStack() as opened, readable(path):
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
            opened.callback(self._db.close)
            self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = OFF;" + _SCHEMA)
            opened.pop_all()

    def position(self, topic: str, partition: int) -> int:
        """Return the offset of the first record that is not folded in yet."""
        row = self._db.execute(
            "SELECT offset FROM positions WHERE topic = ? AND partition = ?", (topic, partition)
        ).fetchone()
        return int(row[0]) if row else 0

    def fold(self, records: Sequence[LogRecord]) -> list[HistoryEntry]:
        """Fold records of `history` in, with their positions, as one; return the entries."""
        entries = [decode_history(record.value) for record in records]
        self._db.execute("BEGIN")
        try:
            for entry in entries:
                self._apply(entry)
            positions = {(record.topic, record.partition): record.offset + 1 for record in records}
            self._db.executemany(
                "INSERT OR REPLACE INTO positions VALUES (?, ?, ?)", [(*at, offset) for at, offset in positions.items()]
            )
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")
        return entries

    def _apply(self, entry: HistoryEntry) -> None:
        if isinstance(entry, RunBegan):
            self._begin(entry)
            return
        moved = self._db.execute(
            "UPDATE runs SET seq = ? WHERE run_id = ? AND seq < ?", (entry.seq, entry.run_id, entry.seq)
        )
        if not moved.rowcount:
            return
        match entry:
            case StepPlanned():
                planned = (entry.kind, "waiting", 0, entry.at, 0, 0, entry.until, entry.detail, None, None)
                self._step(entry.run_id, entry.step, entry.id, planned, entry.seq)
            case StepAttemptFailed():
                error = encode(entry.error).decode()
                failed = ("run", "retrying", entry.attempt + 1, entry.at, 0, 0, entry.retry_at, "", None, error)
                self._step(entry.run_id, entry.step, entry.id, failed, entry.seq)
            case StepEnded():
                self._end_step(entry)
            case StepCancelled():
                self._db.execute(
                    "UPDATE steps SET status = 'cancelled', ended_at = ? WHERE run_id = ? AND step = ?",
                    (entry.at, entry.run_id, entry.step),
                )
            case RunEnded():
                self._end_run(entry)
            case _:
                self._change_run(entry)

    def _change_run(self, entry: RunAttemptFailed | RunMoved | RunWarned) -> None:
        match entry:
            case RunAttemptFailed():
                self._db.execute(
                    "UPDATE runs SET attempt = ?, retry_at = ?, error = ? WHERE run_id = ?",
                    (entry.attempt + 1, entry.retry_at, encode(entry.error).decode(), entry.run_id),
                )
            case RunMoved():
                self._db.execute("UPDATE runs SET epoch = ? WHERE run_id = ?", (entry.epoch, entry.run_id))
            case RunWarned():
                self._db.execute(
                    "UPDATE runs SET warnings = json_insert(warnings, '$[#]', ?) WHERE run_id = ?",
                    (entry.warning, entry.run_id),
                )
            case _:
                assert_never(entry)

    def _begin(self, entry: RunBegan) -> None:
        status = "scheduled" if entry.start_at > entry.at else "running"
        events = encode(entry.events).decode()
        self._db.execute(
            "INSERT OR IGNORE INTO runs VALUES (?, ?, ?, ?, ?, ?, 0, ?, NULL, NULL, ?, '[]', 0, 0, 1, ?)",
            (
                entry.run_id,
                entry.function,
                entry.app,
                status,
                entry.at,
                entry.start_at,
                events,
                entry.caller,
                entry.seq,
            ),
        )
        self._db.executemany(
            "INSERT OR IGNORE INTO run_events VALUES (?, ?)", [(event.id, entry.run_id) for event in entry.events]
        )

    def _step(self, run_id: str, step: str, id: str, values: Sequence[Any], place: int) -> None:
        self._db.execute(
            "INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "status = excluded.status, attempts = excluded.attempts, until = excluded.until, error = excluded.error",
            (run_id, step, id, *values, place),
        )

    def _end_step(self, entry: StepEnded) -> None:
        output = error = None
        match entry.outcome:
            case Value(data):
                status, output = "completed", bytes(data).decode()
            case Failure(info):
                status, error = "failed", encode(info).decode()
            case TimedOut():
                status = "timed_out"
            case _:
                assert_never(entry.outcome)
        attempts = entry.attempt + 1
        self._db.execute(
            "INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '', ?, ?, ?) ON CONFLICT DO UPDATE SET "
            "status = excluded.status, attempts = excluded.attempts, started_at = excluded.started_at, "
            "ended_at = excluded.ended_at, output = excluded.output, error = excluded.error",
            (
                entry.run_id,
                entry.step,
                entry.id,
                entry.kind,
                status,
                attempts,
                entry.started_at or entry.at,
                entry.started_at or entry.at,
                entry.at,
                output,
                error,
                entry.seq,
            ),
        )

    def _end_run(self, entry: RunEnded) -> None:
        error = encode(entry.error).decode() if entry.error else None
        output = bytes(entry.output).decode() if entry.status == "completed" else None
        self._db.execute(
            "UPDATE runs SET status = ?, ended_at = ?, output = ?, error = ?, warnings = ?, retry_at = 0 "
            "WHERE run_id = ?",
            (entry.status, entry.at, output, error, encode(entry.warnings).decode(), entry.run_id),
        )
        self._db.execute(
            "UPDATE steps SET status = 'cancelled', ended_at = ? "
            "WHERE run_id = ? AND status IN ('waiting', 'retrying')",
            (entry.at, entry.run_id),
        )

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
        """Return runs, the newest first; `before` is a run id to page by, `tail` the end of one, of 6 or more."""
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
        query = f"SELECT {_SMALL} FROM runs WHERE {where} ORDER BY run_id DESC LIMIT ?"  # noqa: S608 - only fixed names
        return [RunSummary(**_summary(row)) for row in self._db.execute(query, (*values, limit))]

    def show(self, run_id: str) -> RunView | None:
        """Return one run with its steps in order."""
        query = f"SELECT {_COLUMNS}, output FROM runs WHERE run_id = ?"  # noqa: S608 - only fixed names
        row = self._db.execute(query, (run_id,)).fetchone()
        if row is None:
            return None
        steps = self._db.execute("SELECT * FROM steps WHERE run_id = ? ORDER BY place", (run_id,))
        return RunView(**_summary(row), output=_json(row[-1]), steps=tuple(_step_view(step) for step in steps))

    def awaited_events(self) -> set[str]:
        """Return the names of the events that runs wait for."""
        names = "SELECT DISTINCT detail FROM steps WHERE kind = 'wait' AND status = 'waiting'"
        # Behind the name stands what the wait asks for.
        return {detail.partition(" ")[0] for (detail,) in self._db.execute(names)}

    def counts(self) -> dict[str, int]:
        """Return how many runs there are by status."""
        return dict(self._db.execute("SELECT status, count(*) FROM runs GROUP BY status"))

    def tally(self) -> Tally:
        """Return the sums of all runs."""
        tally = Tally(Counter(self.counts()))
        tally.steps, tally.retries, tally.timeouts = self._db.execute(
            "SELECT count(*) FILTER (WHERE status IN ('completed', 'failed', 'timed_out')), "
            "coalesce(sum(attempts - 1) FILTER (WHERE attempts > 1), 0), "
            "count(*) FILTER (WHERE status = 'timed_out') FROM steps"
        ).fetchone()
        totals = "SELECT function, count(*), sum(ended_at - started_at) FROM runs WHERE ended_at > 0 GROUP BY function"
        tally.functions = {name: FunctionTally(runs, total) for name, runs, total in self._db.execute(totals)}
        still = "SELECT run_id, started_at FROM runs WHERE ended_at = 0"
        tally.open = dict(self._db.execute(still).fetchall())
        return tally

    def forget(self, ended_before: int) -> int:
        """Drop the runs that ended before a time (Unix ms); return how many."""
        old = "SELECT run_id FROM runs WHERE ended_at > 0 AND ended_at < ?"
        self._db.execute(f"DELETE FROM steps WHERE run_id IN ({old})", (ended_before,))  # noqa: S608 - fixed text
        self._db.execute(f"DELETE FROM run_events WHERE run_id IN ({old})", (ended_before,))  # noqa: S608 - fixed text
        return self._db.execute("DELETE FROM runs WHERE ended_at > 0 AND ended_at < ?", (ended_before,)).rowcount

    def close(self) -> None:
        """Close the database."""
        self._db.close()


def _json(text: str | None) -> Json:
    return None if text is None else load_json(text.encode(), own=True)


def _summary(row: Sequence[Any]) -> dict[str, Any]:
    values = dict(zip(_NAMES, row, strict=False))
    values |= {name: _json(values[name]) for name in ("events", "error")}
    listed = _json(values["warnings"])
    values["warnings"] = tuple(map(str, listed)) if isinstance(listed, list) else ()
    return values


def _step_view(row: Sequence[Any]) -> StepView:
    (_, step, id, kind, status, attempts, first, started, ended, until, detail, output, error, _) = row
    return StepView(step, id, kind, status, attempts, first, started, ended, until, detail, _json(output), _json(error))
