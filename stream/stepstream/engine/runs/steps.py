"""Steps: what workers report and the engine finds becomes one result each."""

from collections import Counter

from msgspec.structs import replace

from stepstream.contract.codec import NULL, Raw, encode
from stepstream.contract.commands import Memo, RunResumed
from stepstream.contract.events import EventRecord
from stepstream.contract.history import StepAttemptFailed, StepEnded, StepProgressed
from stepstream.contract.ids import branch_of, is_cancel_waiter
from stepstream.contract.inbox import StepFailed, StepReported, StepResolved
from stepstream.contract.kinds import StepKind
from stepstream.contract.matching import EventMatched
from stepstream.contract.model_usage import ModelUsage
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, TimedOut, Value, outcome_bytes
from stepstream.contract.progress import HeartbeatReported
from stepstream.engine.gates.passing import (
    cover,
    covers_body,
    gates_of_next_attempt,
    is_coverable,
    leave_step_gates,
    settle_gates,
    settled_gates,
)
from stepstream.engine.matching.waits import close_step, withdraw
from stepstream.engine.runs.branches import is_registered, settle_branch
from stepstream.engine.runs.children import forget_child
from stepstream.engine.runs.dispatch import begin_attempt, dispatched_step
from stepstream.engine.runs.endings import cancel_by_event, cancel_overdue
from stepstream.engine.runs.leases import release
from stepstream.engine.runs.pauses import is_paused, send_news
from stepstream.engine.runs.runs import current
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import Group, OpenStep, Run, Timer, TimerKind
from stepstream.engine.state.tables import group_key


def report_step(draft: Draft, report: StepReported) -> None:
    """Keep the result of a step that a worker ran; a repeated report changes nothing."""
    if report.queue:
        _report_dispatched(draft, report)
        return
    run = current(draft, report.run_id, report.epoch)
    if run is None or draft.memo(report.run_id, report.step):
        return
    run = replace(run, own=run.own + 1)
    memo = Memo(report.step, report.id, StepKind.RUN, report.outcome, report.seen, run.own, report.fingerprint)
    opened = draft.step(report.run_id, report.step)
    settle_gates(draft, opened, report.used)
    keep_result(draft, run, memo, opened, report.attempt, report.started_at, usage=report.usage, used=report.used)
    if opened:
        # The code may have changed, so that a former wait is now a body.
        withdraw(draft, report.run_id, report.step, opened)
        if opened.group and report.seen < run.seen and not draft.get(group_key(run.run_id, opened.group)):
            # This result completes its group. The others were sent without a wake, and the worker may drop the run
            # before they arrive; then nothing else would have the run loaded again.
            send_news(draft, run, RunResumed(run.run_id, run.epoch))


def _report_dispatched(draft: Draft, report: StepReported) -> None:
    run = draft.run(report.run_id)
    opened = dispatched_step(draft, report)
    if run is None or opened is None:
        draft.count("stale_reports")
        return
    release(draft, report.run_id, report.step)
    run, memo = engine_memo(run, report.step, opened, report.outcome)
    settle_gates(draft, opened, report.used)
    keep_result(draft, run, memo, opened, report.attempt, report.started_at, usage=report.usage, used=report.used)
    _resume(draft, run, memo, opened.group)


def engine_memo(run: Run, step: str, opened: OpenStep, outcome: Outcome) -> tuple[Run, Memo]:
    """Return a result that did not come from the worker that holds the run, and the run that counts it."""
    run = replace(run, seen=run.seen + 1)
    return run, Memo(step, opened.id, opened.kind, outcome, run.seen, 0, opened.fingerprint, opened.signal)


def keep_result(
    draft: Draft,
    run: Run,
    memo: Memo,
    opened: OpenStep | None,
    attempt: int = 0,
    started_at: int = 0,
    by: str = "",
    usage: ModelUsage | None = None,
    used: int | None = None,
) -> None:
    """Keep a result and close its step, whose row is `opened`. The step no longer waits anywhere."""
    run = replace(
        run,
        attempt=0,
        steps=run.steps + (opened is None),
        memo_bytes=run.memo_bytes + outcome_bytes(memo.outcome),
    )
    order = (memo.seen, memo.own, memo.fingerprint)
    known = (memo.step, memo.id, memo.kind, memo.outcome, attempt, started_at, *order)
    draft.record(run, StepEnded, *known, by, usage, settled_gates(opened, used))
    if opened is not None:
        draft.disarm(opened.due, Timer(TimerKind.STEP, run.run_id, memo.step))
        leave_step_gates(draft, run.run_id, memo.step, opened)
        leave_group(draft, run.run_id, opened.group)
    draft.keep_memo(run.run_id, memo, opened)
    draft.count("steps_ended", run.function, memo.kind, str(memo.outcome.__struct_config__.tag))
    if started_at:
        draft.time("step", run.function, started_at)


def leave_group(draft: Draft, run_id: str, group: str) -> int:
    """Remove one step from its fan-out; return how many are left in it."""
    if not group:
        return 0
    key = group_key(run_id, group)
    row = draft.get(key)
    left = row.open_count - 1 if row else 0
    if left > 0:
        draft.put(key, Group(left))
    elif row:
        draft.delete(key)
    return left


def join_groups(draft: Draft, run_id: str, joined: Counter[str]) -> None:
    """Add this many steps to each fan-out."""
    for group, count in joined.items():
        key = group_key(run_id, group)
        row = draft.get(key)
        draft.put(key, Group(count + (row.open_count if row else 0)))


def fail_step(draft: Draft, report: StepFailed) -> None:
    """Record a failed attempt of a step and set the time of the next."""
    run = draft.run(report.run_id) if report.queue else current(draft, report.run_id, report.epoch)
    if run is None or draft.memo(report.run_id, report.step):
        return
    opened = draft.step(report.run_id, report.step)
    if opened and (opened.attempt > report.attempt or opened.queue != report.queue):
        return
    if report.queue:
        if dispatched_step(draft, report) is None:
            return
        release(draft, report.run_id, report.step)
    settle_gates(draft, opened, report.used)
    if run.expired:
        cancel_overdue(draft, run)
        return
    due = max(draft.now + report.retry_ms, 1)
    run = replace(run, steps=run.steps + (opened is None), attempt=0, opened_steps=True)
    progress = newest_progress(report.progress, opened)
    failed = (report.step, report.id, report.attempt, report.error, due, progress, report.started_at)
    draft.record(run, StepAttemptFailed, *failed, report.usage, settled_gates(opened, report.used))
    if opened is None:
        join_groups(draft, run.run_id, Counter([report.group] if report.group else []))
    else:
        close_step(draft, run.run_id, report.step, opened)
    group = opened.group if opened else report.group
    # A worker of a queue reports no fingerprint: the step has that of its plan.
    fingerprint = report.fingerprint or (opened.fingerprint if opened else 0)
    retried = OpenStep(
        report.id,
        StepKind.RUN,
        due,
        report.attempt + 1,
        group,
        queue=report.queue,
        fingerprint=fingerprint,
        gates=gates_of_next_attempt(run, opened),
        progress=progress,
    )
    draft.put_step(run.run_id, report.step, opened, retried)
    draft.arm(due, Timer(TimerKind.STEP, run.run_id, report.step))
    draft.count("step_retries", run.function)


def report_heartbeat(draft: Draft, report: HeartbeatReported) -> None:
    """Keep the progress of a body that runs; a body whose first attempt runs where its run is has no row before."""
    run = draft.run(report.run_id) if report.queue else current(draft, report.run_id, report.epoch)
    before = opened = draft.step(report.run_id, report.step)
    if run and opened and report.attempt == opened.attempt and is_coverable(run, opened):
        # Its worker has not waited for a permit: the body runs by that of the run.
        opened = cover(draft, run.run_id, report.step, opened)
    if run is None or not _is_running(draft, report, opened):
        return
    progress = newest_progress(report.progress, opened)
    if opened and (opened.sent_at, opened.progress) == (report.sent_at, progress):
        return  # The report arrives again.
    run = replace(run, steps=run.steps + (opened is None), opened_steps=True)
    draft.record(run, StepProgressed, report.step, report.id, report.attempt, progress, report.started_at)
    if opened is None:
        join_groups(draft, run.run_id, Counter([report.group] if report.group else []))
        running = OpenStep(
            report.id,
            StepKind.RUN,
            group=report.group,
            fingerprint=report.fingerprint,
            covered=covers_body(run),
        )
    else:
        running = opened
    draft.put_step(run.run_id, report.step, before, replace(running, progress=progress, sent_at=report.sent_at))


def _is_running(draft: Draft, report: HeartbeatReported, opened: OpenStep | None) -> bool:
    """Return whether the attempt of a heartbeat is the one that runs, and has no result yet."""
    if opened is None:
        return not (report.queue or report.attempt or draft.memo(report.run_id, report.step))
    reported = (StepKind.RUN, report.queue, report.claim, report.attempt)
    return opened.started and (opened.kind, opened.queue, opened.claim, opened.attempt) == reported


def newest_progress(reported: Raw, opened: OpenStep | None) -> Raw:
    """Return the progress that a report has or, if it has none, that of the step's row."""
    return opened.progress if opened and reported == NULL else reported


def answer_step(draft: Draft, resolved: StepResolved) -> None:
    """Keep the result of a step that another shard found, possibly the end of the run that the step invoked."""
    step, number = branch_of(resolved.step)
    if number is not None:
        _end_branch(draft, resolved.run_id, step, number)
        return
    forget_child(draft, resolved.run_id, step)
    is_taken = resolve_step(draft, resolved.run_id, step, resolved.outcome, resolved.by)
    if sent := resolved.sent:
        if is_taken:
            draft.reply(sent.reply_to, f"delivered {resolved.run_id}")
        else:
            draft.route(sent.signal, sent)


def resolve_step(draft: Draft, run_id: str, step: str, outcome: Outcome, by: str = "") -> bool:
    """Keep the result that the engine found for an open step, and resume the run; return whether it was in time.

    `by` says who sent it, if a signal has.
    """
    run = draft.run(run_id)
    opened = draft.step(run_id, step)
    # The code may have changed, so that a former wait is now a body: then only a worker has its result.
    if run is None or opened is None or opened.kind == StepKind.RUN:
        return False
    late = opened.kind in (StepKind.WAIT, StepKind.SIGNAL) and 0 < opened.due <= draft.now
    if late and isinstance(outcome, Value) and not opened.looking_back:
        return False  # The timer of this step is due in this batch and ends it.
    run, memo = engine_memo(run, step, opened, outcome)
    keep_result(draft, run, memo, opened, by=by)
    _resume(draft, run, memo, opened.group)
    return True


def _resume(draft: Draft, run: Run, memo: Memo, group: str) -> None:
    """Send a result to the worker that holds the run; it wakes the run if its group is complete or it is an error."""
    left = draft.get(group_key(run.run_id, group)) if group else None
    wake = left is None or isinstance(memo.outcome, Failure)
    send_news(draft, run, RunResumed(run.run_id, run.epoch, (memo,), wake=wake))


def receive_match(draft: Draft, matched: EventMatched) -> None:
    """End the wait of a step with an event, or cancel a run that waits for it."""
    if is_cancel_waiter(matched.step):
        cancel_by_event(draft, matched)
        return
    step, number = branch_of(matched.step)
    if number is None:
        kept = resolve_step(draft, matched.run_id, step, Value(Raw(encode(matched.event))))
    else:
        kept = _end_branch(draft, matched.run_id, step, number, matched.event)
    if kept and matched.arrived_at:
        draft.time("match", "", matched.arrived_at)


def _end_branch(draft: Draft, run_id: str, step: str, number: int, event: EventRecord | None = None) -> bool:
    """End one of the waits of a step, with its event or as expired; return whether this ends the step."""
    outcome = settle_branch(draft, run_id, step, number, event)
    opened = draft.step(run_id, step)
    if outcome is None or opened is None:
        return False
    withdraw(draft, run_id, step, opened)
    return resolve_step(draft, run_id, step, outcome)


def fire_step(draft: Draft, run_id: str, step: str) -> None:
    """Handle the timer of a step: an attempt is due, a sleep is over, or a wait timed out."""
    run = draft.run(run_id)
    opened = draft.step(run_id, step)
    if run is None or opened is None:
        return
    match opened.kind:
        case StepKind.RUN if opened.queue and is_paused(draft, run, opened.queue):
            pass  # The end of the pause arms the timer again.
        case StepKind.RUN:
            begin_attempt(draft, run, step, opened, replace(opened, due=0))
        case StepKind.SLEEP:
            resolve_step(draft, run_id, step, Value(NULL))
        case StepKind.INVOKE:
            error = ErrorInfo("InvokeTimeoutError", "the invoked function did not end in time", code="invoke-timeout")
            resolve_step(draft, run_id, step, Failure(error))
        case StepKind.WAIT if opened.looking_back and is_registered(opened):
            # A kept event may have ended the wait: only its matcher knows.
            draft.put_step(run_id, step, opened, replace(opened, due=0))
            withdraw(draft, run_id, step, opened, expired=True)
        case _:
            withdraw(draft, run_id, step, opened)
            resolve_step(draft, run_id, step, TimedOut())
