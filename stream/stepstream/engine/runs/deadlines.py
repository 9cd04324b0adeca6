"""Timeouts of runs: one until the first code of a run is executed, one from then until it ends.

A run that exceeds the second one is cancelled when no body of it is running: its worker lets the bodies end, starts no
other, and then claims the run, at which the engine cancels it. If no worker claims it within a period of grace, because
it has none or because its bodies take longer, it is cancelled after that.
"""

from msgspec.structs import replace

from stepstream.contract.commands import ReloadRequested, RunStarted
from stepstream.contract.events import EventRecord
from stepstream.contract.history import RunDeadlineChanged
from stepstream.contract.inbox import ExecutionStarted
from stepstream.contract.limits import FINISH_GRACE_MS
from stepstream.engine.gates.passing import counts_work, covers_body
from stepstream.engine.runs.endings import cancel_overdue
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import Run, Timer, TimerKind


def announces(run: Run) -> bool:
    """Return whether the worker of a run has to report that it executes its first code."""
    return run.timeouts is not None and not run.begun


def start_command(run: Run, events: tuple[EventRecord, ...]) -> RunStarted:
    """Return the command that starts a run at its first line."""
    known = run.run_id, run.function, run.epoch, events, run.started_at, run.chain
    return RunStarted(*known, announces(run), counts_work(run), covers_body(run))


def await_start(draft: Draft, run: Run) -> Run:
    """Set the timer of a new run that must start in time, which counts from when it is due; return the run with it."""
    if run.timeouts is None or not run.timeouts.start_ms:
        return run
    return _set(draft, run, run.started_at + run.timeouts.start_ms)


def start_execution(draft: Draft, report: ExecutionStarted) -> None:
    """Note that the code of a run began, from which the time until its end counts."""
    run = draft.run(report.run_id)
    if run is None or run.epoch != report.epoch or run.begun or run.timeouts is None:
        return
    draft.disarm(run.deadline, Timer(TimerKind.DEADLINE, run.run_id))
    finish_ms = run.timeouts.finish_ms
    run = replace(run, begun=True, deadline=0)
    _record(draft, _set(draft, run, draft.now + finish_ms) if finish_ms else run)


def fire_deadline(draft: Draft, run_id: str) -> None:
    """Cancel a run that has exceeded its time; one whose code may be running first lets its bodies end."""
    run = draft.run(run_id)
    if run is None:
        return
    if not run.begun or run.expired or run.due or run.parked:
        cancel_overdue(draft, run)
        return
    _record(draft, _set(draft, replace(run, expired=True), draft.now + FINISH_GRACE_MS))
    draft.command(run.app, ReloadRequested(run_id, expired=True))


def _set(draft: Draft, run: Run, deadline: int) -> Run:
    draft.arm(deadline, Timer(TimerKind.DEADLINE, run.run_id))
    return replace(run, deadline=deadline)


def _record(draft: Draft, run: Run) -> None:
    draft.record(run, RunDeadlineChanged, run.deadline, run.expired)
