"""Folds history into the SQL tables of the read model; an entry that is folded again changes nothing."""

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, assert_never

from msgspec.structs import replace

from stepstream.contract.codec import EMPTY_OBJECT, NULL
from stepstream.contract.history import (
    HistoryEntry,
    RunAttemptFailed,
    RunBegan,
    RunEnded,
    RunMoved,
    RunWarned,
    StepAttemptFailed,
    StepCancelled,
    StepCopied,
    StepEnded,
    StepPlanned,
)
from stepstream.contract.kinds import OPEN_STEP_STATUSES, RunStatus, StepKind, StepStatus
from stepstream.contract.outcomes import Failure, Outcome, TimedOut, Value
from stepstream.runtime.readmodel.approvals import ask
from stepstream.runtime.readmodel.schema import small_error, text_of


class Database(Protocol):
    """What folding uses of a connection of sqlite3."""

    def execute(self, query: str, values: Sequence[Any] = ..., /) -> Any:
        """Execute a statement, and return its cursor."""

    def executemany(self, query: str, rows: Iterable[Sequence[Any]], /) -> Any:
        """Execute a statement for each row."""


def apply(db: Database, entry: HistoryEntry) -> None:
    """Apply an entry of history to the tables, unless they have it already."""
    if isinstance(entry, RunBegan):
        _begin(db, entry)
        return
    moved = db.execute("UPDATE runs SET seq = ? WHERE run_id = ? AND seq < ?", (entry.seq, entry.run_id, entry.seq))
    if not moved.rowcount:
        return
    match entry:
        case StepPlanned():
            planned = (entry.kind, StepStatus.WAITING, 0, entry.at, 0, 0, entry.until, entry.detail, None, None)
            _step(db, entry.run_id, entry.step, entry.id, planned, entry.seq)
            if entry.approval:
                ask(db, entry, entry.approval)
        case StepAttemptFailed():
            status, attempts, error = StepStatus.RETRYING, entry.attempt + 1, text_of(entry.error)
            retried = (StepKind.RUN, status, attempts, entry.at, 0, 0, entry.retry_at, "", None, error)
            _step(db, entry.run_id, entry.step, entry.id, retried, entry.seq)
        case StepEnded():
            _end_step(db, entry)
        case StepCopied():
            _copy_step(db, entry)
        case StepCancelled():
            db.execute(
                "UPDATE steps SET status = ?, ended_at = ? WHERE run_id = ? AND step = ?",
                (StepStatus.CANCELLED, entry.at, entry.run_id, entry.step),
            )
        case RunEnded():
            _end_run(db, entry)
        case _:
            _change_run(db, entry)


def _change_run(db: Database, entry: RunAttemptFailed | RunMoved | RunWarned) -> None:
    match entry:
        case RunAttemptFailed():
            db.execute(
                "UPDATE runs SET attempt = ?, retry_at = ?, error = ? WHERE run_id = ?",
                (entry.attempt + 1, entry.retry_at, small_error(entry.error), entry.run_id),
            )
            error = text_of(entry.error)
            db.execute("UPDATE run_texts SET error = ? WHERE run_id = ?", (error, entry.run_id))
        case RunMoved():
            db.execute("UPDATE runs SET epoch = ? WHERE run_id = ?", (entry.epoch, entry.run_id))
        case RunWarned():
            db.execute(
                "UPDATE runs SET warnings = json_insert(warnings, '$[#]', ?) WHERE run_id = ?",
                (entry.warning, entry.run_id),
            )
        case _:
            assert_never(entry)


def _begin(db: Database, entry: RunBegan) -> None:
    status = RunStatus.SCHEDULED if entry.start_at > entry.at else RunStatus.RUNNING
    small = [replace(event, data=EMPTY_OBJECT, user=NULL) for event in entry.events]
    times = (entry.at, entry.start_at)
    db.execute(
        "INSERT OR IGNORE INTO runs VALUES (?, ?, ?, ?, ?, ?, 0, ?, NULL, ?, '[]', 0, 0, 1, ?, ?, ?, '{}', NULL)",
        (
            *(entry.run_id, entry.function, entry.app, status, *times, text_of(small), entry.caller, entry.seq),
            entry.rerun.origin if entry.rerun else "",
            text_of(entry.rerun) if entry.rerun else None,
        ),
    )
    db.execute("INSERT OR IGNORE INTO run_texts VALUES (?, ?, NULL, NULL)", (entry.run_id, text_of(entry.events)))
    db.executemany(
        "INSERT OR IGNORE INTO run_events VALUES (?, ?)", [(event.id, entry.run_id) for event in entry.events]
    )
    db.executemany(
        "INSERT OR IGNORE INTO run_names VALUES (?, ?)", [(event.name, entry.run_id) for event in entry.events]
    )


def _step(db: Database, run_id: str, step: str, id: str, values: Sequence[Any], seq: int) -> None:
    db.execute(
        "INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, 0, 0) ON CONFLICT DO UPDATE SET "
        "status = excluded.status, attempts = excluded.attempts, until = excluded.until, error = excluded.error",
        (run_id, step, id, *values, seq),
    )


def _columns_of(outcome: Outcome) -> tuple[StepStatus, str | None, str | None]:
    """Return the status, the output and the error of a step that has its result."""
    match outcome:
        case Value(data):
            return StepStatus.COMPLETED, bytes(data).decode(), None
        case Failure(info):
            return StepStatus.FAILED, None, text_of(info)
        case TimedOut():
            return StepStatus.TIMED_OUT, None, None
        case _:
            assert_never(outcome)


def _copy_step(db: Database, entry: StepCopied) -> None:
    status, output, error = _columns_of(entry.outcome)
    times, order = (entry.at, entry.at, entry.at), (entry.seen, entry.own, entry.fingerprint)
    db.execute(
        "INSERT OR IGNORE INTO steps VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?, 0, '', ?, ?, ?, ?, ?, ?, 1)",
        (entry.run_id, entry.step, entry.id, entry.kind, status, *times, output, error, entry.seq, *order),
    )


def _end_step(db: Database, entry: StepEnded) -> None:
    status, output, error = _columns_of(entry.outcome)
    attempts = entry.attempt + 1
    db.execute(
        "INSERT INTO steps VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, '', ?, ?, ?, ?, ?, ?, 0) ON CONFLICT DO UPDATE SET "
        "status = excluded.status, attempts = excluded.attempts, started_at = excluded.started_at, "
        "ended_at = excluded.ended_at, output = excluded.output, error = excluded.error, seen = excluded.seen, "
        "own = excluded.own, fingerprint = excluded.fingerprint",
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
            entry.seen,
            entry.own,
            entry.fingerprint,
        ),
    )


def _end_run(db: Database, entry: RunEnded) -> None:
    output = bytes(entry.output).decode() if entry.status == RunStatus.COMPLETED else None
    db.execute(
        "UPDATE runs SET status = ?, ended_at = ?, error = ?, warnings = ?, retry_at = 0 WHERE run_id = ?",
        (entry.status, entry.at, small_error(entry.error), text_of(entry.warnings), entry.run_id),
    )
    error = text_of(entry.error) if entry.error else None
    db.execute("UPDATE run_texts SET error = ?, output = ? WHERE run_id = ?", (error, output, entry.run_id))
    db.execute(
        "UPDATE steps SET status = ?, ended_at = ? WHERE run_id = ? AND status IN (?, ?)",
        (StepStatus.CANCELLED, entry.at, entry.run_id, *OPEN_STEP_STATUSES),
    )
