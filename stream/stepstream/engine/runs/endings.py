"""The end of a run: completed, failed, cancelled or skipped, exactly once, with none of its rows left."""

from msgspec.structs import replace

from stepstream.contract.codec import NULL, Raw, encode
from stepstream.contract.commands import RunStopped
from stepstream.contract.events import CANCELLED, FAILED, FINISHED, EventRecord, EventRef
from stepstream.contract.gates import Excess, GateRefused, rule_text
from stepstream.contract.history import RunEnded
from stepstream.contract.ids import StepRef, run_hash, run_id_at, run_routing
from stepstream.contract.inbox import AnswersContinued, CancelRequested, RunRequested, StepResolved
from stepstream.contract.kinds import RunStatus
from stepstream.contract.limits import BATCH_BYTES_MAX
from stepstream.contract.matching import EventMatched
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, Value, outcome_bytes
from stepstream.contract.text.wording import duration_text
from stepstream.engine.gates.passing import free_key, leave_gates
from stepstream.engine.matching.cancel_waits import close_cancel_waits
from stepstream.engine.matching.signal_runs import leave_signal
from stepstream.engine.matching.waits import close_step
from stepstream.engine.runs.children import cancel_awaited, cancel_children
from stepstream.engine.runs.dispatch import recall
from stepstream.engine.runs.leases import release
from stepstream.engine.runs.pauses import disarm_pause
from stepstream.engine.state.draft import Draft, LimitExceeded
from stepstream.engine.state.rows import Run, RunEvents, Timer, TimerKind
from stepstream.engine.state.tables import (
    GROUPS,
    LEASES,
    MEMOS,
    STEPS,
    run_events_key,
    run_part,
    run_values_key,
    step_of,
)

_REASONS = {
    Excess.RATE_LIMITED: "it exceeds the {limit}",
    Excess.SKIPPED: "run {by} is open ({gate})",
    Excess.IDEMPOTENT: "run {by} has the same key ({gate})",
    Excess.DEBOUNCED: "run {by} is of a later event ({gate})",
    Excess.BATCHED: "run {by} has its event ({gate})",
}
CANCELLED_ERROR = ErrorInfo("RunCancelled", "the run was cancelled", code="run-cancelled")


def cancel_run(draft: Draft, request: CancelRequested) -> None:
    """End a run at the request of a caller, or because the run that invoked it has ended."""
    run = draft.run(request.run_id)
    if run is None:
        draft.answer(request, "not_found")
        return
    if request.parent and _has_others(draft, run):
        return
    if request.children:
        cancel_awaited(draft, run)
    if request.parent:
        _cancel(draft, run, "parent", f": run {request.parent}, which invoked it, has ended")
        return
    by, why = f" by {request.by}" * bool(request.by), f": {request.why}" * bool(request.why)
    _cancel(draft, run, "request", by + why)
    draft.answer(request, "cancelled")


def _has_others(draft: Draft, run: Run) -> bool:
    """Return whether a run has events of others of its batch, or answers their callers."""
    row = draft.get(run_events_key(run.run_id))
    return row is not None and (len(row.events) > 1 or bool(row.callers))


def cancel_by_event(draft: Draft, matched: EventMatched) -> None:
    """End a run on an event that its function names in `cancel_on`."""
    if run := draft.run(matched.run_id):
        event = EventRef(matched.event.name, matched.event.id)
        _cancel(draft, run, "event", f" by event {event.name} (id {event.id})", event)


def cancel_overdue(draft: Draft, run: Run) -> None:
    """End a run that did not start, or did not end, within its timeout."""
    if run.timeouts is None:
        return
    if run.begun:
        _cancel(draft, run, "finish-timeout", f": it did not end within {duration_text(run.timeouts.finish_ms)}")
    else:
        _cancel(draft, run, "start-timeout", f": it did not start within {duration_text(run.timeouts.start_ms)}")


def _cancel(draft: Draft, run: Run, cause: str, detail: str, event: EventRef | None = None) -> None:
    draft.count("runs_cancelled", run.function, cause)
    error = replace(CANCELLED_ERROR, message=CANCELLED_ERROR.message + detail)
    end_run(draft, run, RunStatus.CANCELLED, Failure(error), event)


def refuse_run(draft: Draft, refused: GateRefused) -> None:
    """End a run that a gate has refused before its code has started, or for which another run takes its permit."""
    run, gate = draft.run(refused.run_id), refused.gate
    if run is None:
        return
    if gate.excess is Excess.REPLACE:
        _cancel(draft, run, "singleton", f": run {refused.by} replaced it ({gate.name})")
        return
    draft.count("runs_refused", run.function, gate.excess)
    # The gate that has refused it does not know of it.
    run = replace(run, asked=run.granted)
    if gate.excess is Excess.BATCHED:
        # The run that has its event answers its caller.
        run = replace(run, caller=None)
    else:
        free_key(draft, run)
    reason = _REASONS[gate.excess].format(by=refused.by, gate=gate.name, limit=rule_text(gate))
    error = ErrorInfo("RunSkipped", f"the run was skipped: {reason}", code=gate.excess)
    end_run(draft, run, RunStatus.SKIPPED, Failure(error))


def end_outgrown_run(draft: Draft, exceeded: LimitExceeded) -> None:
    """End a run that has outgrown its limits, in the state before the change that would exceed them."""
    if run := draft.run(exceeded.run_id):
        end_run(draft, run, RunStatus.FAILED, Failure(exceeded.error))


def end_run(
    draft: Draft,
    run: Run,
    status: RunStatus,
    outcome: Outcome,
    cancelled_by: EventRef | None = None,
    continued_by: str = "",
    *,
    non_retriable: bool = False,
) -> None:
    """End a run: delete all its rows, answer its caller, publish its end, and start its failure handler.

    A run that is skipped has never started: no worker knows it, and no event says that its function has finished.
    """
    start = draft.get(run_events_key(run.run_id)) or RunEvents(())
    output = outcome.data if isinstance(outcome, Value) else NULL
    error, raw = (outcome.error, outcome.raw) if isinstance(outcome, Failure) else (None, NULL)
    _delete_rows(draft, run, status)
    close_cancel_waits(draft, run.run_id, start.cancel_waits)
    fields = (status, run.function, output, error, run.warnings, cancelled_by, continued_by, raw, non_retriable)
    draft.record_end(run, RunEnded, *fields, run.passed, run.parked_at)
    draft.count("open_runs", run.function, amount=-1)
    draft.count("runs_ended", run.function, status)
    leave_signal(draft, run, continued_by)
    if (run.caller or start.callers) and not continued_by:
        _answer(draft, run, start.callers, outcome, status)
    if status == RunStatus.SKIPPED:
        return
    draft.time("run", run.function, run.started_at)
    if status != RunStatus.COMPLETED:
        draft.command(run.app, RunStopped(run.run_id, status))
    end = _end_data(run, status, start.events, outcome)
    if continued_by:
        end["continued_by"] = continued_by
    if non_retriable:
        end["non_retriable"] = True
    if not run.suppress_end_events:
        _emit_end(draft, run, status, end)
    if status == RunStatus.FAILED and run.on_failure and start.events:
        _start_handler(draft, run, end)


def _delete_rows(draft: Draft, run: Run, reason: str) -> None:
    part = run_part(run.run_id)
    if run.opened_steps:
        _delete_open_steps(draft, run, reason)
    for memo, _ in draft.scan(MEMOS, part):
        draft.delete(memo)
    release(draft, run.run_id)
    leave_gates(draft, run)
    cancel_children(draft, run)
    draft.disarm(run.due, Timer(TimerKind.RUN, run.run_id))
    draft.disarm(run.deadline, Timer(TimerKind.DEADLINE, run.run_id))
    disarm_pause(draft, run)
    if run.has_values:
        draft.delete(run_values_key(run.run_id))
    draft.delete(run_events_key(run.run_id))


def _delete_open_steps(draft: Draft, run: Run, reason: str) -> None:
    part = run_part(run.run_id)
    for key, step in draft.scan(STEPS, part):
        close_step(draft, run.run_id, step_of(key), step)
        recall(draft, run, step_of(key), step, reason)
        draft.delete_step(key, step)
    for group, _ in draft.scan(GROUPS, part):
        draft.delete(group)
    for lease, _ in draft.scan(LEASES, part):
        release(draft, run.run_id, step_of(lease))


def _answer(draft: Draft, run: Run, others: tuple[StepRef, ...], outcome: Outcome, status: RunStatus) -> None:
    if isinstance(outcome, Failure) and status == RunStatus.FAILED:
        outcome = replace(outcome, error=replace(outcome.error, code=outcome.error.code or "invoked-run-failed"))
    callers = (run.caller, *others) if run.caller else others
    answer_callers(draft, AnswersContinued(run.run_id, callers, outcome))


def answer_callers(draft: Draft, due: AnswersContinued) -> None:
    """Answer the steps that wait for a run, as many as one transition may; a later batch has the others."""
    most = min(draft.limits.waits_per_match_max, BATCH_BYTES_MAX // (outcome_bytes(due.outcome) + 1))
    now, later = due.callers[: max(most, 1)], due.callers[max(most, 1) :]
    for caller in now:
        draft.route_to_run(caller.run_id, StepResolved(caller.run_id, caller.step, due.outcome))
    if later:
        draft.continue_later(run_routing(due.run_id), replace(due, callers=later))


def _end_data(run: Run, status: RunStatus, events: tuple[EventRecord, ...], outcome: Outcome) -> dict[str, object]:
    data: dict[str, object] = {"function_id": run.function, "run_id": run.run_id, "status": status}
    if events:
        data["event"] = events[0]
    if isinstance(outcome, Failure):
        data["error"] = outcome.error
        if outcome.raw is not NULL:
            data["raw_error"] = outcome.raw
    else:
        data["result"] = outcome.data if isinstance(outcome, Value) else NULL
    return data


def _emit_end(draft: Draft, run: Run, status: RunStatus, end: dict[str, object]) -> None:
    data = Raw(encode(end))
    draft.emit(run, EventRecord(FINISHED, data, f"{run.run_id}:finished", draft.now))
    if status == RunStatus.FAILED:
        draft.emit(run, EventRecord(FAILED, data, f"{run.run_id}:failed", draft.now))
    elif status == RunStatus.CANCELLED:
        draft.emit(run, EventRecord(CANCELLED, data, f"{run.run_id}:cancelled", draft.now))


def _start_handler(draft: Draft, run: Run, end: dict[str, object]) -> None:
    event = EventRecord(FAILED, Raw(encode(end)), f"{run.run_id}:failed", draft.now)
    hash_part = run_hash(run.on_failure, event.id)
    handler = run_id_at(draft.now, hash_part)
    request = RunRequested(handler, run.on_failure, run.app, (event,), suppress_end_events=True, chain=run.chain + 1)
    draft.route(hash_part, request)
