"""The life of a run: claimed, retried, and ended exactly once."""

from msgspec.structs import replace

from stepstream.contract.attributes import changed, same
from stepstream.contract.codec import NULL, Raw, encode
from stepstream.contract.commands import Open, RunLoaded, RunResumed, RunStarted, RunStopped
from stepstream.contract.events import CANCELLED, FAILED, FINISHED, EventRecord, EventRef
from stepstream.contract.history import AttributesChanged, RunAttemptFailed, RunEnded, RunMoved
from stepstream.contract.ids import StepRef, run_hash, run_id_at
from stepstream.contract.inbox import (
    AttributesSet,
    CancelRequested,
    RunClaimed,
    RunFailed,
    RunLeased,
    RunPostponed,
    RunRequested,
    RunReturned,
    StepResolved,
    WarningReported,
)
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.limits import LOOKBACK_EVENTS_MAX
from stepstream.contract.matching import EventMatched, LookBackTruncated
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, Value
from stepstream.engine.matching.cancel_waits import close_cancel_waits
from stepstream.engine.matching.waits import close_step
from stepstream.engine.runs.dispatch import memos_of, recall
from stepstream.engine.runs.leases import defer_claim, grant, release, release_all
from stepstream.engine.runs.pauses import disarm_pause, hold, is_paused
from stepstream.engine.state.draft import Draft, LimitExceeded
from stepstream.engine.state.lifecycle import state_of_run
from stepstream.engine.state.rows import Run, RunEvents, Timer, TimerKind
from stepstream.engine.state.tables import GROUPS, MEMOS, STEPS, run_events_key, run_part, step_of

CANCELLED_ERROR = ErrorInfo("RunCancelled", "the run was cancelled", code="run-cancelled")


def current(draft: Draft, run_id: str, epoch: int) -> Run | None:
    """Return the run of a worker's report, or None when it has ended or a newer worker holds it."""
    run = draft.run(run_id)
    if run is None or run.epoch != epoch:
        draft.count("stale_reports")
        return None
    return run


def claim_run(draft: Draft, claim: RunClaimed) -> None:
    """Give a run to the worker that claims it, under a new epoch."""
    run = draft.run(claim.run_id)
    if run is None:
        draft.command(claim.app, RunStopped(claim.run_id))
        return
    if run.claim == claim.claim or defer_claim(draft, claim):
        return
    if run.due or hold(draft, run):
        draft.command(run.app, RunStopped(run.run_id, "waiting" if run.due else "paused"))
        return
    epoch = run.epoch + 1
    run = draft.record(replace(run, epoch=epoch, claim=claim.claim), RunMoved, epoch)
    opened = tuple(
        Open(
            step_of(key),
            step.attempt,
            ready=step.kind == StepKind.RUN and not step.due and not step.queue,
            group=step.group,
            kind=step.kind,
            fingerprint=step.fingerprint,
        )
        for key, step in draft.scan(STEPS, run_part(run.run_id))
    )
    loaded = RunLoaded(
        run.run_id,
        run.function,
        run.epoch,
        draft.events(run.run_id),
        run.started_at,
        claim.claim,
        run.attempt,
        memos_of(draft, run.run_id),
        opened,
        run.chain,
    )
    draft.command(run.app, loaded)


def lease_run(draft: Draft, report: RunLeased) -> None:
    """Leave a run to its worker for a while, or answer the claims of others."""
    if current(draft, report.run_id, report.epoch) is None:
        return
    if report.for_ms:
        grant(draft, report.run_id, "", report.for_ms)
    else:
        release(draft, report.run_id)


def warn_run(draft: Draft, report: WarningReported) -> None:
    """Record a warning of the worker."""
    if run := current(draft, report.run_id, report.epoch):
        draft.warn(run, report.warning)


def set_attributes(draft: Draft, report: AttributesSet) -> None:
    """Change the attributes of a run; a replay may report the same values again."""
    run = current(draft, report.run_id, report.epoch)
    if run is None:
        return
    attributes = changed(run.attributes, report.attributes)
    if not same(attributes, run.attributes):
        draft.record(replace(run, attributes=attributes), AttributesChanged, attributes)


def warn_of_truncated_look_back(draft: Draft, truncated: LookBackTruncated) -> None:
    """Warn a run that a look-back does not evaluate all kept events of its window."""
    run, opened = draft.run(truncated.run_id), draft.step(truncated.run_id, truncated.step)
    if run and opened:
        warning = (
            f"step {opened.id!r} looked back at only the newest {LOOKBACK_EVENTS_MAX} of the kept events "
            f"{truncated.event!r}: use match= or an equality in if_=, by which the engine finds those that match"
        )
        draft.warn(run, warning)


def return_run(draft: Draft, report: RunReturned) -> None:
    """End a run with the value that its function returned."""
    if run := current(draft, report.run_id, report.epoch):
        end_run(draft, run, RunStatus.COMPLETED, Value(report.output))


def fail_run(draft: Draft, report: RunFailed) -> None:
    """Retry the code between steps later, or end the run with its error."""
    run = current(draft, report.run_id, report.epoch)
    if run is None or run.due or report.attempt < run.attempt:
        return
    if report.retry_ms < 0:
        end_run(draft, run, RunStatus.FAILED, Failure(report.error))
        return
    due = max(draft.now + report.retry_ms, 1)
    run = replace(run, attempt=report.attempt + 1, due=due)
    draft.record(run, RunAttemptFailed, report.attempt, report.error, due)
    draft.count("run_retries", run.function)
    _resume_at(draft, run, due)


def postpone_run(draft: Draft, report: RunPostponed) -> None:
    """Retry a run later because its worker has no code that fits it; this is not an attempt."""
    run = current(draft, report.run_id, report.epoch)
    if run is None or run.due:
        return
    due = max(draft.now + report.for_ms, 1)
    draft.warn(replace(run, due=due), report.reason)
    _resume_at(draft, run, due)


def _resume_at(draft: Draft, run: Run, due: int) -> None:
    release(draft, run.run_id)
    draft.arm(due, Timer(TimerKind.RUN, run.run_id))


def fire_run(draft: Draft, run_id: str) -> None:
    """Start a run, or retry the code between its steps: its time has come."""
    run = draft.run(run_id)
    if run is None or is_paused(draft, run):
        return
    scheduled = state_of_run(run) == "scheduled"
    draft.put_run(replace(run, due=0))
    if scheduled:
        events = draft.events(run_id)
        draft.command(run.app, RunStarted(run_id, run.function, run.epoch, events, run.started_at, run.chain))
    else:
        draft.command(run.app, RunResumed(run_id, run.epoch))


def cancel_run(draft: Draft, request: CancelRequested) -> None:
    """End a run at the request of a caller."""
    run = draft.run(request.run_id)
    if run is None:
        draft.answer(request, "not_found")
        return
    by, why = f" by {request.by}" * bool(request.by), f": {request.why}" * bool(request.why)
    _cancel(draft, run, "request", by + why)
    draft.answer(request, "cancelled")


def cancel_by_event(draft: Draft, matched: EventMatched) -> None:
    """End a run on an event that its function names in `cancel_on`."""
    if run := draft.run(matched.run_id):
        event = EventRef(matched.event.name, matched.event.id)
        _cancel(draft, run, "event", f" by event {event.name} (id {event.id})", event)


def _cancel(draft: Draft, run: Run, cause: str, detail: str, event: EventRef | None = None) -> None:
    draft.count("runs_cancelled", run.function, cause)
    error = replace(CANCELLED_ERROR, message=CANCELLED_ERROR.message + detail)
    end_run(draft, run, RunStatus.CANCELLED, Failure(error), event)


def end_outgrown_run(draft: Draft, exceeded: LimitExceeded) -> None:
    """End a run that has outgrown its limits, in the state before the change that would exceed them."""
    if run := draft.run(exceeded.run_id):
        end_run(draft, run, RunStatus.FAILED, Failure(exceeded.error))


def end_run(draft: Draft, run: Run, status: RunStatus, outcome: Outcome, cancelled_by: EventRef | None = None) -> None:
    """End a run: delete all its rows, answer its caller, publish its end, and start its failure handler."""
    start = draft.get(run_events_key(run.run_id)) or RunEvents(())
    output = outcome.data if isinstance(outcome, Value) else NULL
    error = outcome.error if isinstance(outcome, Failure) else None
    _delete_rows(draft, run, status)
    close_cancel_waits(draft, run.run_id, start.cancel_waits)
    draft.record_end(run, RunEnded, status, run.function, output, error, run.warnings, cancelled_by)
    draft.count("open_runs", run.function, amount=-1)
    draft.count("runs_ended", run.function, status)
    draft.time("run", run.function, run.started_at)
    if run.caller:
        _answer(draft, run.caller, outcome, status)
    if status != RunStatus.COMPLETED:
        draft.command(run.app, RunStopped(run.run_id, status))
    if not run.suppress_end_events:
        _emit_end(draft, run, status, output, error)
    if status == RunStatus.FAILED and run.on_failure and start.events:
        _start_handler(draft, run, start.events, error)


def _delete_rows(draft: Draft, run: Run, reason: str) -> None:
    part = run_part(run.run_id)
    for key, step in draft.scan(STEPS, part):
        close_step(draft, run.run_id, step_of(key), step)
        recall(draft, run, step_of(key), step, reason)
        draft.delete_step(key, step)
    for memo, _ in draft.scan(MEMOS, part):
        draft.delete(memo)
    for group, _ in draft.scan(GROUPS, part):
        draft.delete(group)
    release_all(draft, run.run_id)
    draft.disarm(run.due, Timer(TimerKind.RUN, run.run_id))
    disarm_pause(draft, run)
    draft.delete(run_events_key(run.run_id))


def _answer(draft: Draft, caller: StepRef, outcome: Outcome, status: RunStatus) -> None:
    if isinstance(outcome, Failure) and status == RunStatus.FAILED:
        outcome = Failure(replace(outcome.error, code=outcome.error.code or "invoked-run-failed"))
    draft.route_to_run(caller.run_id, StepResolved(caller.run_id, caller.step, outcome))


def _end_data(run: Run, status: RunStatus, output: Raw, error: ErrorInfo | None) -> dict[str, object]:
    data: dict[str, object] = {"function_id": run.function, "run_id": run.run_id, "status": status}
    if error is None:
        data["result"] = output
    else:
        data["error"] = error
    return data


def _emit_end(draft: Draft, run: Run, status: RunStatus, output: Raw, error: ErrorInfo | None) -> None:
    data = Raw(encode(_end_data(run, status, output, error)))
    draft.emit(run, EventRecord(FINISHED, data, f"{run.run_id}:finished", draft.now))
    if status == RunStatus.FAILED:
        draft.emit(run, EventRecord(FAILED, data, f"{run.run_id}:failed", draft.now))
    elif status == RunStatus.CANCELLED:
        draft.emit(run, EventRecord(CANCELLED, data, f"{run.run_id}:cancelled", draft.now))


def _start_handler(draft: Draft, run: Run, events: tuple[EventRecord, ...], error: ErrorInfo | None) -> None:
    data = _end_data(run, RunStatus.FAILED, NULL, error)
    data["event"] = events[0]
    event = EventRecord(FAILED, Raw(encode(data)), f"{run.run_id}:failed", draft.now)
    hash_part = run_hash(run.on_failure, event.id)
    handler = run_id_at(draft.now, hash_part)
    request = RunRequested(handler, run.on_failure, run.app, (event,), suppress_end_events=True, chain=run.chain + 1)
    draft.route(hash_part, request)
