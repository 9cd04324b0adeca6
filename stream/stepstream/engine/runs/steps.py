"""Steps: what workers report and the engine finds becomes one kept result each, within the limits of a run."""

from collections import Counter
from typing import assert_never

from msgspec.structs import replace

from stepstream.contract.codec import NULL, Raw, encode
from stepstream.contract.commands import Memo, Open, RunResumed
from stepstream.contract.history import StepAttemptFailed, StepEnded
from stepstream.contract.inbox import (
    EventMatched,
    StepFailed,
    StepReported,
)
from stepstream.contract.outcomes import ErrorInfo, Failure, Outcome, TimedOut, Value
from stepstream.engine.matching.waits import close_step
from stepstream.engine.runs.dispatch import dispatch, dispatched_step
from stepstream.engine.runs.leases import release
from stepstream.engine.runs.runs import FAILED_STATUS, current, end_run
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.keys import group_key, memo_key, open_key
from stepstream.engine.state.rows import Group, OpenStep, Run


def report_step(draft: Draft, report: StepReported) -> None:
    """Keep the result of a step that a worker ran; a repeat of it changes nothing."""
    if report.queue:
        _report_dispatched(draft, report)
        return
    run = current(draft, report.run_id, report.epoch)
    if run is None or draft.get(Memo, memo_key(report.run_id, report.step)):
        return
    run = replace(run, own=run.own + 1)
    memo = Memo(report.step, report.id, "run", report.outcome, report.seen, run.own)
    _keep(draft, run, memo, report.attempt, report.started_at)


def _report_dispatched(draft: Draft, report: StepReported) -> None:
    run = draft.run(report.run_id)
    opened = dispatched_step(draft, report)
    if run is None or opened is None:
        draft.count("stale_reports")
    else:
        release(draft, report.run_id, report.step)
        _give(draft, run, report.step, opened, report.outcome, report.attempt, report.started_at)


def _keep(draft: Draft, run: Run, memo: Memo, attempt: int = 0, started_at: int = 0) -> bool:
    """Keep a result and close the step. Return False when a limit of the run ended it instead."""
    opened = draft.get(OpenStep, open_key(run.run_id, memo.step))
    if opened is not None:
        close_step(draft, run.run_id, memo.step, opened)
        leave_group(draft, run.run_id, opened.group)
    run = replace(
        run,
        attempt=0,
        steps=run.steps + (opened is None),
        memo_bytes=run.memo_bytes + _size(memo.outcome),
        history_seq=run.history_seq + 1,
    )
    if breaks_limit(draft, run):
        return False
    draft.put_run(run)
    draft.keep_memo(run.run_id, memo, opened)
    entry = StepEnded(
        run.run_id, run.history_seq, draft.now, memo.step, memo.id, memo.kind, memo.outcome, attempt, started_at
    )
    draft.tell(entry)
    draft.count("steps_ended", run.function, memo.kind, str(memo.outcome.__struct_config__.tag))
    if started_at:
        draft.time("step", run.function, started_at)
    return True


def _size(outcome: Outcome) -> int:
    match outcome:
        case Value(data):
            return len(bytes(data))
        case Failure(error):
            return len(encode(error))
        case TimedOut():
            return 0
        case _:
            assert_never(outcome)


def breaks_limit(draft: Draft, run: Run) -> bool:
    """Tell whether a run has outgrown its limits; such a one is ended by it."""
    limits = draft.limits
    if run.steps > limits.steps_per_run_max:
        error = ErrorInfo(
            "StepLimitError", f"the run has more than {limits.steps_per_run_max:,} steps", "", "step-limit"
        )
    elif run.memo_bytes > limits.run_memo_bytes_max:
        message = f"the results of the run's steps exceed {limits.run_memo_bytes_max:,} bytes"
        error = ErrorInfo("RunStateLimitError", message, "", "run-state-limit")
    else:
        return False
    end_run(draft, replace(run, history_seq=run.history_seq - 1), FAILED_STATUS, Failure(error))
    return True


def leave_group(draft: Draft, run_id: str, group: str) -> int:
    """Take one step out of its fan-out; return how many are left in it."""
    if not group:
        return 0
    key = group_key(run_id, group)
    row = draft.get(Group, key)
    left = row.open_count - 1 if row else 0
    if left > 0:
        draft.put(key, Group(left))
    elif row:
        draft.delete(key)
    return left


def join_groups(draft: Draft, run_id: str, joined: Counter[str]) -> None:
    """Add so many steps to each fan-out."""
    for group, count in joined.items():
        key = group_key(run_id, group)
        row = draft.get(Group, key)
        draft.put(key, Group(count + (row.open_count if row else 0)))


def fail_step(draft: Draft, report: StepFailed) -> None:
    """Note a failed attempt and have the next one at its time."""
    run = draft.run(report.run_id) if report.queue else current(draft, report.run_id, report.epoch)
    if run is None or draft.get(Memo, memo_key(report.run_id, report.step)):
        return
    opened = draft.get(OpenStep, open_key(report.run_id, report.step))
    if opened and (opened.attempt > report.attempt or opened.queue != report.queue):
        return
    if report.queue:
        if dispatched_step(draft, report) is None:
            return
        release(draft, report.run_id, report.step)
    due = max(draft.now + report.retry_ms, 1)
    run = replace(run, steps=run.steps + (opened is None), attempt=0, history_seq=run.history_seq + 1)
    if breaks_limit(draft, run):
        return
    if opened is None:
        join_groups(draft, run.run_id, Counter([report.group] if report.group else []))
    else:
        close_step(draft, run.run_id, report.step, opened)
    group = opened.group if opened else report.group
    draft.put_run(run)
    again = OpenStep(report.id, "run", due, report.attempt + 1, group, queue=report.queue)
    draft.put_step(run.run_id, report.step, opened, again)
    draft.arm(due, "step", run.run_id, report.step)
    entry = StepAttemptFailed(
        run.run_id, run.history_seq, draft.now, report.step, report.id, report.attempt, report.error, due
    )
    draft.tell(entry)
    draft.count("step_retries", run.function)


def resolve_step(draft: Draft, run_id: str, step: str, outcome: Outcome) -> bool:
    """Keep the result that the engine found for an open step, and tell the worker; too late is no harm.

    Return whether it was kept.
    """
    run = draft.run(run_id)
    opened = draft.get(OpenStep, open_key(run_id, step))
    # The code may have changed, so that what was a wait is now a body: then only a worker has its result.
    if run is None or opened is None or opened.kind == "run":
        return False
    late = opened.kind in ("wait", "signal") and 0 < opened.due <= draft.now
    if late and isinstance(outcome, Value):
        return False  # The timer of this very step is due in this batch and answers it.
    return _give(draft, run, step, opened, outcome)


def _give(
    draft: Draft, run: Run, step: str, opened: OpenStep, outcome: Outcome, attempt: int = 0, started_at: int = 0
) -> bool:
    """Keep a result that did not come from the worker that holds the run, and tell that one."""
    memo = keep_resolved(draft, run, step, opened, outcome, attempt, started_at)
    if memo is not None:
        left = _group_left(draft, run.run_id, opened.group)
        wake = not left or isinstance(outcome, Failure)
        draft.command(run.app, RunResumed(run.run_id, run.epoch, (memo,), wake=wake))
    return memo is not None


def wake_run(draft: Draft, matched: EventMatched) -> None:
    """Wake a run by the event that its step waited for."""
    kept = resolve_step(draft, matched.run_id, matched.step, Value(Raw(encode(matched.event))))
    if kept and matched.arrived_at:
        draft.time("match", "", matched.arrived_at)


def _group_left(draft: Draft, run_id: str, group: str) -> int:
    row = draft.get(Group, group_key(run_id, group)) if group else None
    return row.open_count if row else 0


def keep_resolved(
    draft: Draft, run: Run, step: str, opened: OpenStep, outcome: Outcome, attempt: int = 0, started_at: int = 0
) -> Memo | None:
    """Keep a result that did not come from the worker that holds the run; None when a limit ended the run instead."""
    run = replace(run, seen=run.seen + 1)
    memo = Memo(step, opened.id, opened.kind, outcome, run.seen)
    return memo if _keep(draft, run, memo, attempt, started_at) else None


def fire_step(draft: Draft, run_id: str, step: str) -> None:
    """The timer of a step fires: an attempt is due, a sleep is over, or the time to wait ran out."""
    run = draft.run(run_id)
    opened = draft.get(OpenStep, open_key(run_id, step))
    if run is None or opened is None:
        return
    match opened.kind:
        case "run":
            draft.put_step(run_id, step, opened, replace(opened, due=0))
            if opened.queue:
                dispatch(draft, run, step, opened)
            else:
                draft.command(run.app, RunResumed(run_id, run.epoch, retries=(Open(step, opened.attempt, ready=True),)))
        case "sleep":
            resolve_step(draft, run_id, step, Value(NULL))
        case "invoke":
            error = ErrorInfo("InvokeTimeoutError", "the invoked function did not end in time", "", "invoke-timeout")
            resolve_step(draft, run_id, step, Failure(error))
        case _:
            resolve_step(draft, run_id, step, TimedOut())
