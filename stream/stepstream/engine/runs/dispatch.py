"""Steps whose bodies run in the workers of a queue: lent, claimed, and called back."""

from msgspec.structs import replace

from stepstream.contract.commands import Memo, RunStopped, StepDispatched
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.inbox import StepClaimed, StepFailed, StepLeased, StepPostponed, StepReported
from stepstream.contract.limits import LENT_BYTES_MAX
from stepstream.engine.runs.leases import defer, release, reserve
from stepstream.engine.runs.warnings import warned
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.keys import MEMO, function_key, open_key, run_events_key, run_part
from stepstream.engine.state.rows import OpenStep, Run, RunEvents


def memos_of(draft: Draft, run_id: str) -> tuple[Memo, ...]:
    """Return the results of a run's steps in the order in which its code sees them."""
    memos = (memo for _, memo in draft.scan(Memo, MEMO, run_part(run_id)))
    return tuple(sorted(memos, key=lambda memo: (memo.seen, memo.own)))


def has_queue(draft: Draft, function: str, queue: str) -> bool:
    """Tell whether the app of a function has a queue: its workers would not have come up without the topic."""
    known = draft.get(FunctionRegistered, function_key(function))
    return known is not None and queue in known.queues


def dispatch(draft: Draft, run: Run, step: str, opened: OpenStep) -> None:
    """Have the workers of a step's queue run its next attempt.

    Of a large run the first word has neither events nor results: it may lend a thousand steps at once.
    """
    known = draft.get(RunEvents, run_events_key(run.run_id))
    events = known.events if known else ()
    size = run.memo_bytes + sum(len(event.data) for event in events)
    partial = not opened.claim and size > LENT_BYTES_MAX
    lent = StepDispatched(
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
    )
    draft.command(run.app, lent, opened.queue)


def dispatched_step(draft: Draft, report: StepReported | StepFailed | StepLeased | StepPostponed) -> OpenStep | None:
    """Return the step of a report from a queue, or None when nobody waits for that report any more.

    A worker that claimed the step has taken it from the one before, whose body may go on for a while: were its report
    kept, the other would run a body whose result is there.
    """
    opened = draft.get(OpenStep, open_key(report.run_id, report.step))
    lent = (report.queue, report.claim, report.attempt)
    return opened if opened and (opened.queue, opened.claim, opened.attempt) == lent else None


def claim_step(draft: Draft, claim: StepClaimed) -> None:
    """Tell a worker that came upon a step lent before whether it is still to be run."""
    run = draft.run(claim.run_id)
    opened = draft.get(OpenStep, open_key(claim.run_id, claim.step))
    if defer(draft, claim):
        return
    if run is None or opened is None or opened.queue != claim.queue or opened.due:
        draft.command(claim.app, RunStopped(claim.run_id, step=claim.step), claim.queue)
    else:
        claimed = replace(opened, claim=claim.claim)
        draft.put_step(claim.run_id, claim.step, opened, claimed)
        dispatch(draft, run, claim.step, claimed)


def lease_step(draft: Draft, report: StepLeased) -> None:
    """Leave a step to its worker for a while, or give it to whoever has asked meanwhile."""
    if dispatched_step(draft, report) is None:
        return
    if report.for_ms:
        reserve(draft, report.run_id, report.step, report.for_ms)
    else:
        release(draft, report.run_id, report.step)


def postpone_step(draft: Draft, report: StepPostponed) -> None:
    """Lend a step again later, whose code the worker has not; that is no attempt.

    The claim stays: a worker before this one may have the step at work, and must not be heard.
    """
    run, opened = draft.run(report.run_id), dispatched_step(draft, report)
    if run is None or opened is None or opened.due:
        return
    due = max(draft.now + report.for_ms, 1)
    if (after := warned(draft, run, report.reason)) is not run:
        draft.put_run(after)
    draft.put_step(report.run_id, report.step, opened, replace(opened, due=due))
    release(draft, report.run_id, report.step)
    draft.arm(due, "step", report.run_id, report.step)


def recall(draft: Draft, run: Run, step: str, opened: OpenStep, reason: str) -> None:
    """Stop the body of a step that is not wanted any more."""
    if opened.queue and not opened.due:
        draft.command(run.app, RunStopped(run.run_id, reason, step), opened.queue)
        release(draft, run.run_id, step)
