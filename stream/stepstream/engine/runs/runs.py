"""The life of a run: claimed, resumed, tried again, and ended exactly once."""

from msgspec.structs import replace

from stepstream.contract.codec import NULL, Raw, encode
from stepstream.contract.commands import Memo, Open, RunLoaded, RunResumed, RunStopped
from stepstream.contract.events import CANCELLED, FAILED, FINISHED, EventRecord
from stepstream.contract.history import RunAttemptFailed, RunEnded, RunMoved
from stepstream.contract.ids import run_hash, run_id_at
from stepstream.contract.inbox import (
    Caller,
    CancelRequested,
    RunClaimed,
    RunFailed,
    RunLeased,
    RunPostponed,
    RunRequested,
    RunReturned,
    RunWarned,
    StepResolved,
)
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, Value
from stepstream.engine.matching.waits import close_step
from stepstream.engine.runs.dispatch import memos_of, recall
from stepstream.engine.runs.leases import defer, release, release_all, reserve
from stepstream.engine.runs.warnings import warned
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.keys import GROUP, MEMO, OPEN, run_events_key, run_part
from stepstream.engine.state.rows import Group, OpenStep, Run, RunEvents

COMPLETED, FAILED_STATUS, CANCELLED_STATUS = "completed", "failed", "cancelled"
CANCELLED_ERROR = ErrorInfo("RunCancelled", "the run was cancelled", code="run-cancelled")


def current(draft: Draft, run_id: str, epoch: int) -> Run | None:
    """Return the run that a worker's report speaks of, or None when it ended or a newer worker has it."""
    run = draft.run(run_id)
    if run is None or run.epoch != epoch:
        draft.count("stale_reports")
        return None
    return run


def claim_run(draft: Draft, claim: RunClaimed) -> None:
    """Give a run to the worker that asks, under a new epoch."""
    run = draft.run(claim.run_id)
    if run is None:
        draft.command(claim.app, RunStopped(claim.run_id))
        return
    if run.claim == claim.claim or defer(draft, claim):
        return
    if run.due:
        draft.command(run.app, RunStopped(run.run_id, "waiting"))
        return
    run = replace(run, epoch=run.epoch + 1, claim=claim.claim, history_seq=run.history_seq + 1)
    draft.put_run(run)
    draft.tell(RunMoved(run.run_id, run.history_seq, draft.now, run.epoch))
    part = run_part(run.run_id)
    opened = tuple(
        Open(
            key.sort.decode(),
            step.attempt,
            ready=step.kind == "run" and not step.due and not step.queue,
            group=step.group,
            kind=step.kind,
        )
        for key, step in draft.scan(OpenStep, OPEN, part)
    )
    events = draft.get(RunEvents, run_events_key(run.run_id))
    loaded = RunLoaded(
        run.run_id,
        run.function,
        run.epoch,
        events.events if events else (),
        run.started_at,
        claim.claim,
        run.attempt,
        memos_of(draft, run.run_id),
        opened,
    )
    draft.command(run.app, loaded)


def lease_run(draft: Draft, report: RunLeased) -> None:
    """Leave a run to its worker for a while, or give it to whoever has asked meanwhile."""
    if current(draft, report.run_id, report.epoch) is None:
        return
    if report.for_ms:
        reserve(draft, report.run_id, "", report.for_ms)
    else:
        release(draft, report.run_id)


def warn_run(draft: Draft, report: RunWarned) -> None:
    """Keep a warning of the worker."""
    run = current(draft, report.run_id, report.epoch)
    if run and (after := warned(draft, run, report.warning)) is not run:
        draft.put_run(after)


def return_run(draft: Draft, report: RunReturned) -> None:
    """End a run by the value that its function returned."""
    if run := current(draft, report.run_id, report.epoch):
        end_run(draft, run, COMPLETED, Value(report.output))


def fail_run(draft: Draft, report: RunFailed) -> None:
    """Try the code between steps again later, or end the run by its error."""
    run = current(draft, report.run_id, report.epoch)
    if run is None or run.due or report.attempt < run.attempt:
        return
    if report.retry_ms < 0:
        end_run(draft, run, FAILED_STATUS, Failure(report.error))
        return
    due = max(draft.now + report.retry_ms, 1)
    run = replace(run, attempt=report.attempt + 1, due=due, history_seq=run.history_seq + 1)
    draft.put_run(run)
    release(draft, run.run_id)
    draft.arm(due, "run-retry", run.run_id)
    draft.count("run_retries", run.function)
    draft.tell(RunAttemptFailed(run.run_id, run.history_seq, draft.now, report.attempt, report.error, due))


def postpone_run(draft: Draft, report: RunPostponed) -> None:
    """Try a run again later, whose code its worker has not; that is no attempt."""
    run = current(draft, report.run_id, report.epoch)
    if run is None or run.due:
        return
    due = max(draft.now + report.for_ms, 1)
    draft.put_run(replace(warned(draft, run, report.reason), due=due))
    release(draft, run.run_id)
    draft.arm(due, "run-retry", run.run_id)


def retry_run(draft: Draft, run_id: str) -> None:
    """Try the code between steps again: it is due."""
    if run := draft.run(run_id):
        draft.put_run(replace(run, due=0))
        draft.command(run.app, RunResumed(run_id, run.epoch))


def cancel_run(draft: Draft, request: CancelRequested) -> None:
    """End a run because somebody asked."""
    run = draft.run(request.run_id)
    if run is None:
        draft.reply(request.reply_to, "not_found")
        return
    end_run(draft, run, CANCELLED_STATUS, Failure(CANCELLED_ERROR))
    draft.reply(request.reply_to, "cancelled")


def end_run(draft: Draft, run: Run, status: str, outcome: Outcome) -> None:
    """End a run: remove all its rows, tell history, its caller, its failure handler and whoever listens."""
    events = draft.get(RunEvents, run_events_key(run.run_id))
    _remove_rows(draft, run, status)
    output = outcome.data if isinstance(outcome, Value) else NULL
    error = outcome.error if isinstance(outcome, Failure) else None
    seq = run.history_seq + 1
    draft.tell(RunEnded(run.run_id, seq, draft.now, status, run.function, output, error, run.warnings))
    draft.count("open_runs", run.function, amount=-1)
    draft.count("runs_ended", run.function, status)
    draft.time("run", run.function, run.started_at)
    if run.caller:
        _answer(draft, run.caller, outcome, status)
    if status != COMPLETED:
        draft.command(run.app, RunStopped(run.run_id, status))
    if not run.quiet:
        _emit_end(draft, run, status, output, error)
    if status == FAILED_STATUS and run.on_failure and events:
        _start_handler(draft, run, events.events, error)


def _remove_rows(draft: Draft, run: Run, reason: str) -> None:
    part = run_part(run.run_id)
    for key, step in draft.scan(OpenStep, OPEN, part):
        close_step(draft, run.run_id, key.sort.decode(), step)
        recall(draft, run, key.sort.decode(), step, reason)
        draft.delete_step(key, step)
    for key, _ in draft.scan(Memo, MEMO, part):
        draft.delete(key)
    for key, _ in draft.scan(Group, GROUP, part):
        draft.delete(key)
    release_all(draft, run.run_id)
    draft.disarm(run.due, run.run_id)
    draft.delete(run_events_key(run.run_id))
    draft.delete_run(run.run_id)


def _answer(draft: Draft, caller: Caller, outcome: Outcome, status: str) -> None:
    if isinstance(outcome, Failure) and status == FAILED_STATUS:
        outcome = Failure(replace(outcome.error, code=outcome.error.code or "invoked-run-failed"))
    draft.route_to_run(caller.run_id, StepResolved(caller.run_id, caller.step, outcome))


def _end_data(run: Run, status: str, output: Raw, error: ErrorInfo | None) -> dict[str, object]:
    data: dict[str, object] = {"function_id": run.function, "run_id": run.run_id, "status": status}
    if error is None:
        data["result"] = output
    else:
        data["error"] = error
    return data


def _emit_end(draft: Draft, run: Run, status: str, output: Raw, error: ErrorInfo | None) -> None:
    data = Raw(encode(_end_data(run, status, output, error)))
    draft.emit(EventRecord(FINISHED, data, f"{run.run_id}:finished", draft.now))
    if status == FAILED_STATUS:
        draft.emit(EventRecord(FAILED, data, f"{run.run_id}:failed", draft.now))
    elif status == CANCELLED_STATUS:
        draft.emit(EventRecord(CANCELLED, data, f"{run.run_id}:cancelled", draft.now))


def _start_handler(draft: Draft, run: Run, events: tuple[EventRecord, ...], error: ErrorInfo | None) -> None:
    data = _end_data(run, FAILED_STATUS, NULL, error)
    data["event"] = events[0]
    event = EventRecord(FAILED, Raw(encode(data)), f"{run.run_id}:failed", draft.now)
    hash_part = run_hash(run.on_failure, event.id)
    request = RunRequested(run_id_at(draft.now, hash_part), run.on_failure, run.app, (event,), quiet=True)
    draft.route(hash_part, request)
