"""What the read model has of a run that may be rerun: its events, and the results of its steps."""

from dataclasses import dataclass
from typing import Any

import msgspec

from stepstream.contract.codec import NULL, Raw
from stepstream.contract.commands import Memo
from stepstream.contract.events import EventRecord
from stepstream.contract.kinds import RunStatus, StepKind, StepStatus
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, TimedOut, Value
from stepstream.runtime.readmodel.dialect import Database

_events_of = msgspec.json.Decoder(tuple[EventRecord, ...]).decode
_error_of = msgspec.json.Decoder(ErrorInfo).decode


class _StoredError(ErrorInfo, frozen=True):
    """An error of a step with the error object of an SDK, as error_text writes it."""

    raw: Raw = NULL


_stored_error_of = msgspec.json.Decoder(_StoredError).decode


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run as a rerun needs it. `memos` are in the order in which its code got them.

    `steps` has all steps of the run: pairs of the hash and the id, the first that was seen comes first.
    """

    run_id: str
    function: str
    status: RunStatus
    error: ErrorInfo | None
    events: tuple[EventRecord, ...]
    memos: tuple[Memo, ...]
    steps: tuple[tuple[str, str], ...]


def recorded_run(db: Database, run_id: str) -> RecordedRun | None:
    """Return what a rerun of a run needs, None if there is no such run."""
    query = (
        "SELECT function, status, run_texts.events, run_texts.error FROM runs JOIN run_texts USING (run_id) "
        "WHERE run_id = ?"
    )
    row = db.execute(query, (run_id,)).fetchone()
    if row is None:
        return None
    function, status, events, error = row
    ended = (
        "SELECT step, id, kind, status, output, error, seen, own, fingerprint FROM steps "
        "WHERE run_id = ? AND status IN (?, ?, ?) ORDER BY seen, own"
    )
    statuses = (StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.TIMED_OUT)
    return RecordedRun(
        run_id,
        function,
        RunStatus(status),
        _error_of(error) if error else None,
        _events_of(events),
        tuple(_memo(*found) for found in db.execute(ended, (run_id, *statuses))),
        tuple(db.execute("SELECT step, id FROM steps WHERE run_id = ? ORDER BY seq", (run_id,))),
    )


def _memo(step: str, id: str, kind: str, status: str, output: str | None, error: str | None, *order: Any) -> Memo:
    return Memo(step, id, StepKind(kind), _outcome(status, output, error), *order)


def _outcome(status: str, output: str | None, error: str | None) -> Outcome:
    match status:
        case StepStatus.FAILED:
            found = _stored_error_of(error or "")
            return Failure(ErrorInfo(found.name, found.message, found.stack, found.code), found.raw)
        case StepStatus.TIMED_OUT:
            return TimedOut()
        case _:
            return Value(NULL if output is None else Raw(output.encode()))
