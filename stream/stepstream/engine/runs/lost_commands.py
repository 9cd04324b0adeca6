"""Commands that were lost with their topic, which are sent again."""

from msgspec.structs import replace

from stepstream.contract.commands import RunResumed, StepDispatched
from stepstream.contract.inbox import CommandsLost
from stepstream.contract.text.names import workers_name
from stepstream.engine.runs.pauses import hold
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import OpenStep, Run
from stepstream.engine.state.tables import REGISTRATIONS, RUNS, STEPS, run_part, step_of


def send_again(draft: Draft, lost: CommandsLost) -> None:
    """Have the workers claim each open run, or each dispatched step, that is theirs; a later batch continues.

    Which commands were lost is not known. A claim is always correct: its answer has the whole state under a new epoch,
    and what another worker still does with the run no longer counts. The workers of a run or step that waits for its
    next attempt get their command when it is due, and those of a paused run when its pause ends.
    """
    apps = {function.app for _, function in draft.scan(REGISTRATIONS, b"")}
    if not any(lost.workers == app or lost.workers.startswith(f"{app}.") for app in apps):
        return  # These workers have not registered yet, so no run is theirs.
    most, after, sent = draft.limits.waits_per_match_max, run_part(lost.after) if lost.after else b"", 0
    for read, (_, row) in enumerate(draft.scan(RUNS, b"", most, after), 1):
        # The scan does not know what earlier records of the batch have changed.
        run = draft.run(row.run_id)
        if run is not None and run.app == lost.workers and not run.due and not run.queued and not hold(draft, run):
            draft.command(run.app, RunResumed(run.run_id, run.epoch))
            sent += 1
        elif run is not None and lost.workers.startswith(f"{run.app}."):
            sent += _dispatch_again(draft, run, lost.workers)
        if read == most or sent >= most:
            draft.continue_later(lost.workers, replace(lost, after=row.run_id))
            return


def _dispatch_again(draft: Draft, run: Run, workers: str) -> int:
    """Dispatch the steps of a run that are for workers of a queue; return their number."""
    steps = [
        (step_of(key), opened)
        for key, opened in draft.scan(STEPS, run_part(run.run_id))
        if opened.queue and opened.started and workers_name(run.app, opened.queue) == workers
    ]
    for step, opened in steps:
        draft.command(run.app, _without_state(run, step, opened), opened.queue)
    return len(steps)


def _without_state(run: Run, step: str, opened: OpenStep) -> StepDispatched:
    """Return a command that no worker acts on without a claim."""
    return StepDispatched(
        run.run_id,
        run.function,
        step,
        opened.id,
        (),
        run.started_at,
        opened.attempt,
        partial=True,
        fingerprint=opened.fingerprint,
        chain=run.chain,
    )
