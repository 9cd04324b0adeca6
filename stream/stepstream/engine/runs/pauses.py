"""Pauses of runs: a paused run keeps what happens to it, and its workers get no code to run until the pause ends.

What is held needs no list of its own. A claim of the whole run has its results and the attempts that are due. The timer
of an attempt that the engine starts, of a dispatched step or of the code between steps, is not armed again when it was
due; its row keeps the time, by which the end of the pause finds it.
"""

from msgspec.structs import replace

from stepstream.contract.commands import ReloadRequested, RunResumed
from stepstream.contract.history import RunPaused, RunUnpaused, RunWoken
from stepstream.contract.operators.control import PauseRequested, UnpauseRequested, function_scope, queue_scope
from stepstream.engine.gates.passing import ask_next, counts_work
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import Run, Timer, TimerKind
from stepstream.engine.state.tables import SCOPE_PAUSES, STEPS, run_part, scope_of, step_of


def is_paused(draft: Draft, run: Run, queue: str = "") -> bool:
    """Return whether a run gets no code to run: it is paused or held, or its function is paused, or a step's queue."""
    if run.paused or run.held:
        return True
    paused = draft.scan(SCOPE_PAUSES, b"")
    if not paused:
        return False
    scopes = (function_scope(run.function), queue_scope(run.app, queue) if queue else "")
    return any(scope_of(key) in scopes for key, _ in paused)


def hold(draft: Draft, run: Run) -> bool:
    """Return whether a command of a run must not be sent, as in is_paused; the run then misses it, which is noted."""
    if not is_paused(draft, run):
        return False
    still = draft.run(run.run_id)
    if still and not still.paused and not still.held:
        draft.put_run(replace(still, held=True))
    return True


def send_news(draft: Draft, run: Run, news: RunResumed) -> None:
    """Send news to the worker that holds a run; a paused run gets it by the claim after its pause.

    A run that is parked is woken, and gets it by the claim after its next grant.
    """
    if hold(draft, run):
        return
    if counts_work(run):
        _send_numbered(draft, draft.run(run.run_id) or run, news)
    else:
        draft.command(run.app, news)


def _send_numbered(draft: Draft, run: Run, news: RunResumed) -> None:
    """Send news to the worker of a run that counts work; wake the run if it is parked.

    The worker reports the number of the news when the code waits again. So the news always wakes a worker: one that
    does not hold the run would otherwise ignore it, and never report its number.
    """
    if not run.parked:
        run = replace(run, news=run.news + 1)
        draft.put_run(run)
        draft.command(run.app, replace(news, number=run.news, wake=True))
    elif news.wake and can_wake(run):
        wake_run(draft, run)


def can_wake(run: Run) -> bool:
    """Return whether a run is parked and has not asked for its permits; while it backs off, its timer wakes it."""
    return run.parked and not run.due and run.asked == run.granted


def wake_run(draft: Draft, run: Run) -> None:
    """Have a parked run ask for its permits on work; the last grant has a worker claim it."""
    draft.record(ask_next(draft, run), RunWoken, run.parked_at)


def pause_run(draft: Draft, request: PauseRequested) -> None:
    """Pause a run, or change its pause."""
    run = draft.run(request.run_id)
    if run is None:
        draft.answer(request, "not_found")
        return
    if run.paused != request.pause:
        disarm_pause(draft, run)
        draft.record(replace(run, paused=request.pause), RunPaused, request.pause)
        if request.pause.until:
            draft.arm(request.pause.until, Timer(TimerKind.PAUSE, run.run_id))
        if not run.paused:
            reload(draft, run)
    draft.answer(request, "paused")


def unpause_run(draft: Draft, request: UnpauseRequested) -> None:
    """End the pause of a run at the request of a caller."""
    run = draft.run(request.run_id)
    if run is not None and run.paused:
        _unpause(draft, run, request.by, request.why)
        draft.answer(request, "unpaused", "resumed")
    else:
        draft.answer(request, "not_found" if run is None else "not_paused")


def fire_pause(draft: Draft, run_id: str) -> None:
    """End the pause of a run: its time has come."""
    run = draft.run(run_id)
    if run is not None and run.paused:
        _unpause(draft, run, "", "")


def _unpause(draft: Draft, run: Run, by: str, why: str) -> None:
    """End a pause: have the run claimed, and arm the timers that were due meanwhile; each of them fires once."""
    disarm_pause(draft, run)
    run = replace(run, paused=None)
    # Its function may be paused as well.
    run = replace(run, held=not run.due and is_paused(draft, run))
    if not run.due:
        run = ask_next(draft, run)
    queued = run.parked and run.asked > run.granted
    run = draft.record(run, RunUnpaused, by, why, queued=queued, parked_at=run.parked_at if queued else 0)
    arm_again(draft, run)
    if not run.held:
        reload(draft, run)


def arm_again(draft: Draft, run: Run) -> int:
    """Arm the timers of a run that were due during a pause; return their number. Those that are armed stay so."""
    armed = 0
    if 0 < run.due <= draft.now:
        draft.arm(run.due, Timer(TimerKind.RUN, run.run_id))
        armed += 1
    for key, step in draft.scan(STEPS, run_part(run.run_id)):
        if step.queue and 0 < step.due <= draft.now:
            draft.arm(step.due, Timer(TimerKind.STEP, run.run_id, step_of(key)))
            armed += 1
    return armed


def reload(draft: Draft, run: Run) -> None:
    """Have the worker of a run claim it, unless no worker can have it."""
    if not run.due and not run.queued:
        draft.command(run.app, ReloadRequested(run.run_id))


def disarm_pause(draft: Draft, run: Run) -> None:
    """Remove the timer that ends the pause of a run, if it has one."""
    if run.paused:
        draft.disarm(run.paused.until, Timer(TimerKind.PAUSE, run.run_id))
