"""The life of a run: claimed, leased, warned, retried, and returned or failed by its code."""

from msgspec.structs import replace

from stepstream.contract.attributes import changed, same
from stepstream.contract.commands import Open, RunLoaded, RunResumed, RunStopped
from stepstream.contract.gates import RunParked
from stepstream.contract.history import AttributesChanged, RunAttemptFailed, RunMoved, StateChanged
from stepstream.contract.ids import branch_of
from stepstream.contract.inbox import (
    AttributesSet,
    RunClaimed,
    RunFailed,
    RunLeased,
    RunPostponed,
    RunReturned,
    WarningReported,
)
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.limits import LOOKBACK_EVENTS_MAX
from stepstream.contract.matching import LookBackTruncated
from stepstream.contract.outcomes import Failure, Value
from stepstream.contract.progress import StateSet
from stepstream.contract.run_state import StateValues, same_state
from stepstream.engine.gates.passing import ask_next, counts_work, covers_body, is_coverable, return_work
from stepstream.engine.runs.deadlines import announces
from stepstream.engine.runs.dispatch import ask_for_attempts, continue_by_attempt, memos_of
from stepstream.engine.runs.endings import cancel_overdue, end_run
from stepstream.engine.runs.leases import defer_claim, grant, release
from stepstream.engine.runs.pauses import hold, is_paused, wake_run
from stepstream.engine.runs.starts import start_code
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.lifecycle import state_of_run
from stepstream.engine.state.rows import OpenStep, Run, Timer, TimerKind
from stepstream.engine.state.tables import STEPS, run_part, run_values_key, step_of
from stepstream.engine.state.value_rows import RunValues


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
    if run.expired and not run.due:
        cancel_overdue(draft, run)
        return
    if run.due or run.queued:
        draft.command(run.app, RunStopped(run.run_id, "waiting"))
        return
    if hold(draft, run):
        _park(draft, draft.run(run.run_id) or run)
        draft.command(run.app, RunStopped(run.run_id, "paused"))
        return
    epoch = run.epoch + 1
    run = draft.record(replace(run, epoch=epoch, claim=claim.claim, news=0), RunMoved, epoch)
    ask_for_attempts(draft, run)
    loaded = RunLoaded(
        run.run_id,
        run.function,
        run.epoch,
        draft.events(run.run_id),
        run.started_at,
        claim.claim,
        run.attempt,
        memos_of(draft, run.run_id),
        tuple(_open(run, step_of(key), step) for key, step in draft.scan(STEPS, run_part(run.run_id))),
        run.chain,
        announces(run),
        _values(draft, run),
        counts_work(run),
        covers_body(run),
    )
    draft.command(run.app, loaded)


def _open(run: Run, step: str, opened: OpenStep) -> Open:
    return Open(
        step,
        opened.attempt,
        ready=opened.kind == StepKind.RUN and opened.started and not opened.queue,
        group=opened.group,
        kind=opened.kind,
        fingerprint=opened.fingerprint,
        progress=opened.progress,
        covered=opened.covered or is_coverable(run, opened),
    )


def park_run(draft: Draft, report: RunParked) -> None:
    """Return the permits on work of a run whose code waits, unless its worker has not read the latest news."""
    run = current(draft, report.run_id, report.epoch)
    if run is None or run.news != report.number:
        return
    if run.expired:
        cancel_overdue(draft, run)
    elif not continue_by_attempt(draft, run):
        _park(draft, draft.run(run.run_id) or run)


def _park(draft: Draft, run: Run) -> None:
    parked = return_work(draft, run)
    if parked is not run:
        draft.put_run(parked)


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


def set_state(draft: Draft, report: StateSet) -> None:
    """Store the state that the code of a run has set; a worker that was lost may have reported the same one."""
    run = current(draft, report.run_id, report.epoch)
    if run is None or same_state(report.state, _values(draft, run)):
        return
    draft.put(run_values_key(run.run_id), RunValues(report.state))
    draft.record(replace(run, has_values=True), StateChanged, report.state)


def _values(draft: Draft, run: Run) -> StateValues:
    row = draft.get(run_values_key(run.run_id)) if run.has_values else None
    return row.values if row else {}


def warn_of_truncated_look_back(draft: Draft, truncated: LookBackTruncated) -> None:
    """Warn a run that a look-back does not evaluate all kept events of its window."""
    step, _ = branch_of(truncated.step)
    run, opened = draft.run(truncated.run_id), draft.step(truncated.run_id, step)
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
        end_run(draft, run, RunStatus.FAILED, Failure(report.error, report.raw), non_retriable=report.non_retriable)
        return
    if run.expired:
        cancel_overdue(draft, run)
        return
    due = max(draft.now + report.retry_ms, 1)
    run = return_work(draft, replace(run, attempt=report.attempt + 1, due=due))
    draft.record(run, RunAttemptFailed, report.attempt, report.error, due)
    draft.count("run_retries", run.function)
    _resume_at(draft, run, due)


def postpone_run(draft: Draft, report: RunPostponed) -> None:
    """Retry a run later because its worker has no code that fits it; this is not an attempt."""
    run = current(draft, report.run_id, report.epoch)
    if run is None or run.due:
        return
    due = max(draft.now + report.for_ms, 1)
    draft.warn(return_work(draft, replace(run, due=due)), report.reason)
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
    run = replace(run, due=0)
    if run.parked:
        wake_run(draft, run)
        return
    run = ask_next(draft, run)
    draft.put_run(run)
    if scheduled:
        start_code(draft, run)
    else:
        draft.command(run.app, RunResumed(run_id, run.epoch))
