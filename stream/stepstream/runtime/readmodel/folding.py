"""Folds a batch of history into the tables of the read model; an entry that is folded again changes nothing.

The rows of a batch are collected and written table by table: a run that begins and ends in it is written once.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import assert_never

import msgspec

from stepstream.contract.codec import NULL, Raw
from stepstream.contract.history import (
    AttributesChanged,
    HistoryRecord,
    RunAdmitted,
    RunAttemptFailed,
    RunBatched,
    RunBegan,
    RunDeadlineChanged,
    RunEnded,
    RunMoved,
    RunPaused,
    RunUnpaused,
    RunWarned,
    RunWoken,
    StateChanged,
    StepAttemptFailed,
    StepCancelled,
    StepCopied,
    StepEnded,
    StepPlanned,
    StepProgressed,
)
from stepstream.contract.kinds import OPEN_STEP_STATUSES, RunStatus, StepKind, StepStatus
from stepstream.contract.model_usage import NO_USAGE
from stepstream.contract.operators.bulk import BulkChanged
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, TimedOut, Value
from stepstream.runtime.readmodel.dialect import Database, lock_sums
from stepstream.runtime.readmodel.failed_attempts import RUN_CHARACTERS_MAX, attempt_text
from stepstream.runtime.readmodel.passed_limits import parked_text, passed_text
from stepstream.runtime.readmodel.tables.approvals import ask
from stepstream.runtime.readmodel.tables.bulks import write_bulks
from stepstream.runtime.readmodel.tables.error_groups import ErrorGroups
from stepstream.runtime.readmodel.tables.rows import RunRow, StepRow
from stepstream.runtime.readmodel.tables.run_requests import accept
from stepstream.runtime.readmodel.tables.schema import error_text, text_of, waits_in
from stepstream.runtime.readmodel.tables.seen_events import is_resumed, note_cancelled, note_resumed
from stepstream.runtime.readmodel.tables.timings import Timings
from stepstream.runtime.readmodel.tables.waits import find_waits, retry

_error_of = msgspec.json.Decoder(ErrorInfo).decode
_RunEntry = (
    RunAdmitted
    | RunWoken
    | RunBatched
    | RunAttemptFailed
    | RunMoved
    | RunWarned
    | AttributesChanged
    | RunPaused
    | RunUnpaused
    | RunDeadlineChanged
)
_StepEntry = StepPlanned | StepAttemptFailed | StepProgressed | StepEnded | StepCopied
_MOVES = (StepPlanned, StepAttemptFailed, StepProgressed, StepEnded, StepCancelled, RunAttemptFailed)


def write_entries(db: Database, entries: Sequence[HistoryRecord]) -> None:
    """Fold entries of history into the tables."""
    batch = Batch(db, entries)
    for entry in entries:
        batch.apply(entry)
    batch.write()


class Batch:
    """The rows that a batch of history changes, `entries`. The tables have them once `write` was called."""

    def __init__(self, db: Database, entries: Iterable[HistoryRecord]) -> None:
        self._db = db
        # The runs that the entries are about, of those that the tables or the batch have.
        self._runs = RunRow.load(db, {entry.run_id for entry in entries if not isinstance(entry, BulkChanged)})
        self._steps: dict[tuple[str, str], StepRow] = {}
        self._cancelled: dict[tuple[str, str], tuple[int, str]] = {}
        self._errors = ErrorGroups()
        self._timings = Timings()
        self._failed: list[RunEnded] = []
        self._resumed: list[StepEnded] = []
        self._ended_by_event: list[RunEnded] = []
        # The time of the last entry that may change what a run waits for, by its id.
        self._moved_at: dict[str, int] = {}
        self._sums = [0, 0, 0]
        self._bulks: dict[str, BulkChanged] = {}

    def apply(self, entry: HistoryRecord) -> None:
        """Apply an entry of history, unless the tables contain it."""
        if isinstance(entry, BulkChanged):
            self._bulks[entry.operation] = entry
            return
        if isinstance(entry, RunBegan):
            if entry.run_id not in self._runs:
                self._begin(entry)
            return
        run = self._runs.get(entry.run_id)
        if run is None or entry.seq <= run.seq:
            return
        run.seq = entry.seq
        if isinstance(entry, _MOVES):
            self._moved_at[run.run_id] = entry.at
        match entry:
            case StepPlanned() | StepAttemptFailed() | StepProgressed() | StepEnded() | StepCopied():
                self._change_step(run, entry)
            case StepCancelled():
                self._cancel_step(entry)
            case RunEnded():
                self._end_run(run, entry)
            case StateChanged():
                run.state = text_of(entry.state)
            case _:
                self._change_run(run, entry)

    def write(self) -> None:
        """Write all rows."""
        self._write_steps()
        self._find_waits()
        note_resumed(self._db, self._resumed)
        note_cancelled(self._db, self._ended_by_event)
        self._group_failed_runs()
        self._write_runs()
        # From here on, transactions that fold other shards wait for the end of this one.
        lock_sums(self._db)
        self._write_sums()
        self._errors.write(self._db)
        self._timings.write(self._db)
        write_bulks(self._db, self._bulks.values())

    def _begin(self, entry: RunBegan) -> None:
        status = RunStatus.QUEUED if entry.gates else RunStatus.RUNNING
        if entry.start_at > entry.at:
            status = RunStatus.SCHEDULED
        self._runs[entry.run_id] = RunRow(
            entry.run_id,
            entry.seq,
            entry.function,
            status,
            entry.start_at,
            attributes=entry.attributes,
            deadline=_deadline(entry.deadline, "start"),
            continuation=_continuation(entry),
            began=entry,
            events=entry.events,
        )

    def _change_step(self, run: RunRow, entry: _StepEntry) -> None:
        # A run that is queued has gates, and RunAdmitted says when it has passed them.
        if run.status == RunStatus.SCHEDULED and not isinstance(entry, StepCopied):
            run.start()
        key = (entry.run_id, entry.step)
        self._cancelled.pop(key, None)
        row = self._row_of(run, entry)
        if known := self._steps.get(key):
            known.change(row)
        else:
            self._steps[key] = row

    def _row_of(self, run: RunRow, entry: _StepEntry) -> StepRow:
        row = StepRow(entry.run_id, entry.step, entry.id, StepKind.RUN, StepStatus.WAITING, entry.at, entry.seq)
        match entry:
            case StepPlanned():
                row.kind, row.until, row.detail = entry.kind, entry.until, entry.detail
                self._plan(entry)
            case StepAttemptFailed():
                row.status, row.attempts, row.until = StepStatus.RETRYING, entry.attempt + 1, entry.retry_at
                row.first_at = entry.started_at or entry.at
                row.error, row.failures = text_of(entry.error), attempt_text(entry)
                row.progress, row.usage = _progress(entry.progress), entry.usage or NO_USAGE
                row.limits = passed_text(entry)
                self._errors.add(run.function, entry.id, entry.error, entry.at, entry.run_id)
                self._sums[1] += 1
            case StepProgressed():
                row.status, row.attempts = StepStatus.RUNNING, entry.attempt + 1
                row.first_at = row.started_at = entry.started_at or entry.at
                row.progress, row.heartbeat_at = _progress(entry.progress), entry.at
            case StepCopied():
                row.started_at = row.ended_at = entry.at
                row.copied = 1
                self._add_outcome(row, entry)
            case StepEnded():
                row.attempts = entry.attempt + 1
                row.first_at = row.started_at = entry.started_at or entry.at
                row.ended_at, row.ended_by, row.usage = entry.at, entry.by, entry.usage or NO_USAGE
                row.limits = passed_text(entry)
                self._add_outcome(row, entry)
                self._sums[0] += 1
                if entry.started_at:
                    failed = isinstance(entry.outcome, Failure)
                    self._timings.add(run.function, entry.id, run.run_id, entry.started_at, entry.at, failed=failed)
                self._sums[2] += row.status == StepStatus.TIMED_OUT
                if is_resumed(entry):
                    self._resumed.append(entry)
                if isinstance(entry.outcome, Failure):
                    self._errors.add(run.function, entry.id, entry.outcome.error, entry.at, entry.run_id)
        return row

    def _plan(self, entry: StepPlanned) -> None:
        if entry.approval:
            ask(self._db, entry, entry.approval)
        if entry.request:
            accept(self._db, entry, entry.request)

    def _add_outcome(self, row: StepRow, entry: StepEnded | StepCopied) -> None:
        row.kind, row.seen, row.own, row.fingerprint = entry.kind, entry.seen, entry.own, entry.fingerprint
        row.status, row.output, row.error = _columns_of(entry.outcome)

    def _cancel_step(self, entry: StepCancelled) -> None:
        if known := self._steps.get((entry.run_id, entry.step)):
            known.cancel(entry.at)
            known.limits += passed_text(entry)
        else:
            self._cancelled[entry.run_id, entry.step] = (entry.at, passed_text(entry))

    def _change_run(self, run: RunRow, entry: _RunEntry) -> None:  # noqa: C901 - a table
        run.changed = True
        match entry:
            case RunAdmitted():
                run.start()
                run.limits += passed_text(entry)
            case RunWoken():
                run.status = RunStatus.QUEUED
                run.limits += parked_text(entry.parked_at)
            case RunBatched():
                run.events = entry.events
            case RunAttemptFailed():
                run.start()
                run.attempt, run.retry_at = entry.attempt + 1, entry.retry_at
                run.fail(entry.error)
                run.failures += attempt_text(entry) if len(run.failures) < RUN_CHARACTERS_MAX else ""
                run.error_group = self._errors.add(run.function, "", entry.error, entry.at, entry.run_id)
            case RunMoved():
                run.epoch = entry.epoch
            case RunWarned():
                run.warnings = [*run.warnings, entry.warning]
            case AttributesChanged():
                run.attributes = entry.attributes
            case RunPaused():
                pause = entry.pause
                run.paused = text_of({"since": entry.at, "until": pause.until, "by": pause.by, "why": pause.why})
            case RunUnpaused():
                run.paused, run.status = None, RunStatus.QUEUED if entry.queued else run.status
                run.limits += parked_text(entry.parked_at)
            case RunDeadlineChanged():
                run.deadline = _deadline(entry.deadline, "finish", expired=entry.expired)
            case _:
                assert_never(entry)

    def _end_run(self, run: RunRow, entry: RunEnded) -> None:
        run.changed = run.has_texts = True
        run.status, run.ended_at, run.warnings, run.retry_at = entry.status, entry.at, [*entry.warnings], 0
        run.error, run.error_text, run.error_group, run.paused, run.deadline = None, None, None, None, None
        run.waits = None
        run.limits += parked_text(entry.parked_at) + passed_text(entry)
        if entry.error:
            run.fail(entry.error, entry.raw)
        if entry.status == RunStatus.COMPLETED:
            run.output = bytes(entry.output).decode()
        if entry.status == RunStatus.FAILED:
            self._failed.append(entry)
        if entry.continued_by:
            run.continue_by(entry.continued_by)
        if entry.cancelled_by:
            self._ended_by_event.append(entry)
        if entry.status in (RunStatus.COMPLETED, RunStatus.FAILED):
            failed = entry.status == RunStatus.FAILED
            self._timings.add(run.function, "", run.run_id, run.started_at, entry.at, failed=failed)

    def _write_steps(self) -> None:
        for row in self._steps.values():
            run = self._runs[row.run_id]
            if run.ended_at and row.status in OPEN_STEP_STATUSES:
                row.cancel(run.ended_at)
        self._many(StepRow.UPSERT, (row.values() for row in self._steps.values()))
        cancelled = ((StepStatus.CANCELLED, *values, *key) for key, values in self._cancelled.items())
        known = "limits = limits || ? WHERE run_id = ? AND step = ?"
        self._many(f"UPDATE steps SET status = ?, ended_at = ?, {known}", cancelled)
        # Steps of earlier batches that are still open; a run that began in this one has none.
        ended = (run for run in self._runs.values() if run.changed and run.ended_at and run.began is None)
        self._many(
            f"UPDATE steps SET status = ?, ended_at = ? WHERE run_id = ? AND {waits_in()}",
            ((StepStatus.CANCELLED, run.ended_at, run.run_id) for run in ended),
        )

    def _find_waits(self) -> None:
        """Find what the open runs wait for whose steps changed, from their steps in the tables."""
        still = [run for run_id in self._moved_at if not (run := self._runs[run_id]).ended_at]
        found = find_waits(self._db, [run.run_id for run in still])
        for run in still:
            waits = retry(run.retry_at) if run.retry_at > self._moved_at[run.run_id] else found.get(run.run_id)
            text = text_of(waits) if waits else None
            if text != run.waits:
                run.waits, run.changed = text, True

    def _group_failed_runs(self) -> None:
        """Find the groups of the errors with which runs ended: those of the steps that raised them, if any did."""
        for entry in self._failed:
            if entry.error is None:
                continue
            run, step = self._runs[entry.run_id], self._raised_in(entry.run_id, entry.error)
            run.error_group = self._errors.add(run.function, step, entry.error, entry.at, entry.run_id, ends_run=True)

    def _raised_in(self, run_id: str, error: ErrorInfo) -> str:
        """Return the id of the last step of a run that failed with an error, "" if none did."""
        failed = "SELECT id, error FROM steps WHERE run_id = ? AND status = 'failed' ORDER BY seq DESC"
        for id, text in self._db.execute(failed, (run_id,)):
            found = _error_of(text)
            if (found.name, found.message) == (error.name, error.message):
                return str(id)
        return ""

    def _write_runs(self) -> None:
        added = [run for run in self._runs.values() if run.began is not None]
        changed = [run for run in self._runs.values() if run.began is None and run.changed]
        moved = [run for run in self._runs.values() if run.began is None and not run.changed]
        self._many(RunRow.INSERT, (run.inserted() for run in added))
        self._many(RunRow.UPDATE, (run.updated() for run in changed))
        self._many("UPDATE runs SET seq = ? WHERE run_id = ? AND seq < ?", ((r.seq, r.run_id, r.seq) for r in moved))
        self._many("INSERT INTO run_texts VALUES (?, ?, ?, ?, ?, ?, ?)", (run.texts() for run in added))
        texts = ((run.error_text, run.output, run.run_id) for run in changed if run.has_texts)
        self._many("UPDATE run_texts SET error = ?, output = ? WHERE run_id = ?", texts)
        states = ((run.state, run.run_id) for run in self._runs.values() if run.began is None and run.state)
        self._many("UPDATE run_texts SET state = ? WHERE run_id = ?", states)
        failures = ((run.failures, run.run_id, RUN_CHARACTERS_MAX) for run in changed if run.failures)
        self._many("UPDATE run_texts SET failures = failures || ? WHERE run_id = ? AND length(failures) < ?", failures)
        limits = ((run.limits, run.run_id, RUN_CHARACTERS_MAX) for run in changed if run.limits)
        self._many("UPDATE run_texts SET limits = limits || ? WHERE run_id = ? AND length(limits) < ?", limits)
        batched = [run for run in self._runs.values() if run.began is None and run.events]
        self._many("UPDATE runs SET events = ? WHERE run_id = ?", ((run.small_events, run.run_id) for run in batched))
        whole = ((text_of(run.events), run.run_id) for run in batched)
        self._many("UPDATE run_texts SET events = ? WHERE run_id = ?", whole)
        events = [(event, run.run_id) for run in (*added, *batched) for event in run.events]
        self._add("run_events VALUES (?, ?)", ((event.id, run_id) for event, run_id in events))
        self._add("run_names VALUES (?, ?)", ((event.name, run_id) for event, run_id in events))
        runs = [run for run in self._runs.values() if run.attributes is not run.indexed]
        self._many(
            "DELETE FROM run_attributes WHERE value = ? AND name = ? AND run_id = ?",
            (entry for run in runs for entry in run.unindexed()),
        )
        self._add("run_attributes VALUES (?, ?, ?)", (entry for run in runs for entry in run.to_index()))

    def _write_sums(self) -> None:
        if any(self._sums):
            self._db.execute(
                "UPDATE step_sums SET steps = steps + ?, retries = retries + ?, timeouts = timeouts + ?", self._sums
            )
        sums: dict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
        for run in self._runs.values():
            run.add_to(sums)
        self._many(
            "INSERT INTO run_sums VALUES (?, ?, ?, ?) ON CONFLICT (function, status) DO UPDATE SET "
            "runs = run_sums.runs + excluded.runs, total_ms = run_sums.total_ms + excluded.total_ms",
            ((*key, *values) for key, values in sums.items() if any(values)),
        )

    def _add(self, into: str, rows: Iterable[Sequence[object]]) -> None:
        self._many(f"INSERT INTO {into} ON CONFLICT DO NOTHING", rows)

    def _many(self, statement: str, rows: Iterable[Sequence[object]]) -> None:
        self._db.executemany(statement, rows)


def _columns_of(outcome: Outcome) -> tuple[StepStatus, str | None, str | None]:
    """Return the status, the output and the error of a step that has its result."""
    match outcome:
        case Value(data):
            return StepStatus.COMPLETED, bytes(data).decode(), None
        case Failure(info, raw):
            return StepStatus.FAILED, None, error_text(info, raw)
        case TimedOut():
            return StepStatus.TIMED_OUT, None, None
        case _:
            assert_never(outcome)


def _progress(progress: Raw) -> str | None:
    return None if progress == NULL else bytes(progress).decode()


def _deadline(at: int, timeout: str, *, expired: bool = False) -> str | None:
    return text_of({"at": at, "timeout": timeout, "expired": expired}) if at else None


def _continuation(entry: RunBegan) -> str | None:
    known = entry.continues
    return text_of({"from": known.run_id, "number": known.number}) if known else None
