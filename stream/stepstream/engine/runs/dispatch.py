"""Attempts of steps that the engine starts: bodies that a limit delays, and those in the workers of a queue."""

from msgspec.structs import replace

from stepstream.contract.codec import NULL
from stepstream.contract.commands import Memo, Open, RunResumed, RunStopped, StepDispatched
from stepstream.contract.inbox import StepClaimed, StepFailed, StepLeased, StepPostponed, StepReported
from stepstream.contract.limits import DISPATCHED_BYTES_MAX
from stepstream.engine.gates.passing import ask_for_step, leave_step_gates
from stepstream.engine.runs.leases import defer_claim, grant, release
from stepstream.engine.runs.pauses import is_paused, send_news
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import OpenStep, Run, Timer, TimerKind
from stepstream.engine.state.tables import MEMOS, run_part


def memos_of(draft: Draft, run_id: str) -> tuple[Memo, ...]:
    """Return the results of a run's steps in the order in which its code sees them."""
    memos = (memo for _, memo in draft.scan(MEMOS, run_part(run_id)))
    return tuple(sorted(memos, key=lambda memo: (memo.seen, memo.own)))


def has_queue(draft: Draft, function_id: str, queue: str) -> bool:
    """Return whether the app of a function has a queue; if so, its topic exists, or no worker would have started."""
    function = draft.function(function_id)
    return function is not None and queue in function.queues


def begin_attempt(draft: Draft, run: Run, step: str, before: OpenStep, opened: OpenStep) -> None:
    """Start the attempt of a step that is due, unless it waits for a limit: then the last grant starts it.

    In a run that has exceeded its time no attempt starts.
    """
    if run.expired:
        return
    opened = ask_for_step(draft, run, step, opened)
    if not opened.queued and opened.queue and is_paused(draft, run, opened.queue):
        opened = replace(opened, due=max(draft.now, 1))  # The end of the pause arms its timer.
    draft.put_step(run.run_id, step, before, opened)
    send_attempt(draft, run, step, opened)


def send_attempt(draft: Draft, run: Run, step: str, opened: OpenStep) -> None:
    """Send the command for the attempt of a step to its workers, if it has started."""
    if not opened.started:
        return
    if opened.queue:
        dispatch(draft, run, step, opened)
    else:
        due = Open(step, opened.attempt, ready=True, progress=opened.progress)
        send_news(draft, run, RunResumed(run.run_id, run.epoch, retries=(due,)))


def dispatch(draft: Draft, run: Run, step: str, opened: OpenStep) -> None:
    """Dispatch the next attempt of a step to the workers of its queue.

    The first command for a step of a large run has neither events nor results, since a thousand steps may be dispatched
    at once.
    """
    events = draft.events(run.run_id)
    size = run.memo_bytes + sum(len(event.data) for event in events)
    partial = not opened.claim and size > DISPATCHED_BYTES_MAX
    command = StepDispatched(
        run.run_id,
        run.function,
        step,
        opened.id,
        () if partial else events,
        run.started_at,
        opened.attempt,
        () if partial else memos_of(draft, run.run_id),
        opened.claim,
        partial,
        opened.fingerprint,
        run.chain,
        NULL if partial else opened.progress,
    )
    draft.command(run.app, command, opened.queue)


def dispatched_step(draft: Draft, report: StepReported | StepFailed | StepLeased | StepPostponed) -> OpenStep | None:
    """Return the step of a report from a queue, or None when the report is stale.

    A worker that claims a step takes it from the worker before, whose body may continue for a while. That worker's
    report must not count: the new one would then run a body that already has a result.
    """
    opened = draft.step(report.run_id, report.step)
    reported = (report.queue, report.claim, report.attempt)
    return opened if opened and (opened.queue, opened.claim, opened.attempt) == reported else None


def claim_step(draft: Draft, claim: StepClaimed) -> None:
    """Dispatch a step again to the worker that claims it, or stop that worker if the step must not run."""
    run = draft.run(claim.run_id)
    opened = draft.step(claim.run_id, claim.step)
    if defer_claim(draft, claim):
        return
    if run is None or opened is None or opened.queue != claim.queue or not opened.started:
        draft.command(claim.app, RunStopped(claim.run_id, step=claim.step), claim.queue)
        return
    claimed = replace(opened, claim=claim.claim, due=max(draft.now, 1) if is_paused(draft, run, claim.queue) else 0)
    draft.put_step(claim.run_id, claim.step, opened, claimed)
    if claimed.due:
        draft.command(claim.app, RunStopped(claim.run_id, "paused", claim.step), claim.queue)
    else:
        dispatch(draft, run, claim.step, claimed)


def lease_step(draft: Draft, report: StepLeased) -> None:
    """Leave a step to its worker for a while, or answer the claims of others."""
    if dispatched_step(draft, report) is None:
        return
    if report.for_ms:
        grant(draft, report.run_id, report.step, report.for_ms)
    else:
        release(draft, report.run_id, report.step)


def postpone_step(draft: Draft, report: StepPostponed) -> None:
    """Dispatch a step again later, because the worker has no code that fits it; this is not an attempt.

    The claim stays: an earlier worker may still run the step, and its report must not count.
    """
    run, opened = draft.run(report.run_id), dispatched_step(draft, report)
    if run is None or opened is None or not opened.started:
        return
    due = max(draft.now + report.for_ms, 1)
    draft.warn(run, report.reason)
    left = leave_step_gates(draft, report.run_id, report.step, opened)
    draft.put_step(report.run_id, report.step, opened, replace(left, due=due))
    release(draft, report.run_id, report.step)
    draft.arm(due, Timer(TimerKind.STEP, report.run_id, report.step))


def recall(draft: Draft, run: Run, step: str, opened: OpenStep, reason: str) -> None:
    """Stop the body of a dispatched step that is no longer needed."""
    if opened.queue and opened.started:
        draft.command(run.app, RunStopped(run.run_id, reason, step), opened.queue)
        release(draft, run.run_id, step)
