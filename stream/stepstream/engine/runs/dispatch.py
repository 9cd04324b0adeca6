"""Attempts of steps that the engine starts: bodies that a limit delays, and those in the workers of a queue."""

from msgspec.structs import replace

from stepstream.contract.codec import NULL
from stepstream.contract.commands import Memo, Open, RunResumed, RunStopped, StepDispatched
from stepstream.contract.inbox import StepClaimed, StepFailed, StepLeased, StepPostponed, StepReported
from stepstream.contract.kinds import StepKind
from stepstream.contract.limits import DISPATCHED_BYTES_MAX
from stepstream.engine.gates.passing import ask_for_step, cover, covers_body, leave_step_gates
from stepstream.engine.runs.leases import defer_claim, grant, release
from stepstream.engine.runs.pauses import hold, is_paused, send_news
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import OpenStep, Run, Timer, TimerKind
from stepstream.engine.state.tables import MEMOS, STEPS, run_part, step_of


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

    In a run that has exceeded its time no attempt starts. If the run is parked, and its worker runs the body, the
    attempt asks for its limits when a worker has the run.
    """
    if run.expired:
        return
    if run.parked and covers_body(run) and not opened.queue:
        draft.put_step(run.run_id, step, before, opened)
        send_news(draft, run, RunResumed(run.run_id, run.epoch))
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
        due = Open(step, opened.attempt, ready=True, progress=opened.progress, covered=opened.covered)
        send_news(draft, run, RunResumed(run.run_id, run.epoch, retries=(due,)))


def ask_for_attempts(draft: Draft, run: Run) -> None:
    """Have the attempts of a run that became due while it was parked ask for their limits, before a worker loads it.

    The first of them is covered by the permits of the run.
    """
    if not covers_body(run) or not run.opened_steps or run.expired:
        return
    attempts = _due_attempts(draft, run)
    is_covered = any(opened.covered for _, opened in attempts)
    for step, opened in attempts:
        if opened.queued and opened.asked == opened.granted:
            covered = opened if is_covered else cover(draft, run.run_id, step, opened)
            draft.put_step(run.run_id, step, opened, ask_for_step(draft, run, step, covered))
            is_covered = True


def continue_by_attempt(draft: Draft, run: Run) -> bool:
    """Keep a run executing whose code waits for attempts that have no permit yet; return False if there are none.

    The run holds a permit that its code does not need now, so it covers the first of them. One that waits for other
    limits keeps the run executing, as it would keep a separate permit. A paused run is parked, and the end of the
    pause wakes it.
    """
    if not covers_body(run) or not run.opened_steps:
        return False
    waiting = [(step, opened) for step, opened in _due_attempts(draft, run) if opened.queued]
    if not waiting or hold(draft, run):
        return False
    if not any(opened.covered for _, opened in waiting):
        step, opened = waiting[0]
        begin_attempt(draft, run, step, opened, cover(draft, run.run_id, step, opened))
    return True


def _due_attempts(draft: Draft, run: Run) -> list[tuple[str, OpenStep]]:
    """Return the steps whose next attempt the worker of a run starts, in the order in which they asked for permits."""
    steps = ((step_of(key), opened) for key, opened in draft.scan(STEPS, run_part(run.run_id)))
    due = ((step, each) for step, each in steps if each.kind == StepKind.RUN and not (each.queue or each.due))
    return sorted(due, key=lambda pair: (pair[1].number, pair[0]))


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
