"""Pauses of functions and queues: every shard has them, and their end continues what they held, in portions.

The shard that owns the scope of a pause orders the requests and sends each change to all shards. A shard looks at the
pauses where it would send a command, so a pause costs nothing for the runs that wait meanwhile.
"""

from msgspec.structs import replace

from stepstream.contract.limits import SCOPE_CHANGES_KEPT_MAX
from stepstream.contract.operators.control import (
    ScopePauseChanged,
    ScopePauseRequested,
    ScopeRecord,
    ScopeResumed,
    function_scope,
    queue_scope,
)
from stepstream.engine.gates.passing import ask_next
from stepstream.engine.runs.pauses import arm_again, can_wake, fire_pause, reload, wake_run
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import Run, Timer, TimerKind
from stepstream.engine.state.scope_rows import ScopeChange, ScopeChanges, ScopePause
from stepstream.engine.state.tables import RUNS, SCOPE_CHANGES, run_part, scope_pause_key


def request_scope_pause(draft: Draft, request: ScopePauseRequested) -> None:
    """Pause a function or a queue, change its pause, or resume it."""
    known = draft.get(scope_pause_key(request.scope))
    if known is None and request.pause is None:
        draft.reply(request.reply_to, "not_paused")
        return
    if known is None or known.pause != request.pause:
        _disarm(draft, request.scope, known)
        _change(draft, ScopePauseChanged(request.scope, request.pause, draft.now, request.by, request.why))
    draft.reply(request.reply_to, "paused" if request.pause else "resumed")


def _disarm(draft: Draft, scope: str, known: ScopePause | None) -> None:
    if known:
        draft.disarm(known.pause.until, Timer(TimerKind.SCOPE_PAUSE, scope))


def _change(draft: Draft, changed: ScopePauseChanged) -> None:
    if changed.pause and changed.pause.until:
        draft.arm(changed.pause.until, Timer(TimerKind.SCOPE_PAUSE, changed.scope))
    draft.send_to_all(changed.scope, changed)


def end_pause(draft: Draft, timer: Timer) -> None:
    """End the pause of a run, a function or a queue: its time has come."""
    if timer.kind is TimerKind.PAUSE:
        fire_pause(draft, timer.owner)
    elif draft.get(scope_pause_key(timer.owner)):
        _change(draft, ScopePauseChanged(timer.owner, at=draft.now))


def apply_scope(draft: Draft, record: ScopeRecord) -> None:
    """Apply the change of a pause in this shard, or continue the runs that it held."""
    if isinstance(record, ScopePauseChanged):
        change_scope_pause(draft, record)
    else:
        resume_scope(draft, record)


def change_scope_pause(draft: Draft, changed: ScopePauseChanged) -> None:
    """Apply the pause of a function or a queue in this shard, or its end."""
    key = scope_pause_key(changed.scope)
    known = draft.get(key)
    _note(draft, changed)
    if changed.pause:
        draft.put(key, ScopePause(changed.pause, known.since if known else draft.now))
    elif known:
        draft.delete(key)
        # A scan does not see the runs of this batch.
        draft.continue_later(changed.scope, ScopeResumed(changed.scope))


def _note(draft: Draft, changed: ScopePauseChanged) -> None:
    """Keep who changed the pause, and why, with the changes before."""
    key, pause = SCOPE_CHANGES.key(b"", changed.scope.encode()), changed.pause
    by, why = (pause.by, pause.why) if pause else (changed.by, changed.why)
    earlier = row.changes if (row := draft.get(key)) else ()
    change = ScopeChange(changed.at, pause, by, why)
    draft.put(key, ScopeChanges((change, *earlier)[:SCOPE_CHANGES_KEPT_MAX]))


def resume_scope(draft: Draft, resumed: ScopeResumed) -> None:
    """Continue the runs of a function or a queue that was resumed, a bounded number; a later batch has the others."""
    if draft.get(scope_pause_key(resumed.scope)):
        return  # It is paused again, and the end of that pause continues all of them.
    most, after, done = draft.limits.waits_per_match_max, run_part(resumed.after) if resumed.after else b"", 0
    for read, (_, row) in enumerate(draft.scan(RUNS, b"", most, after), 1):
        # The scan does not know what earlier records of the batch have changed.
        if run := draft.run(row.run_id):
            done += _resume(draft, run, resumed.scope)
        if read == most or done >= most:
            draft.continue_later(resumed.scope, replace(resumed, after=row.run_id))
            return


def _resume(draft: Draft, run: Run, scope: str) -> int:
    """Continue a run if it is in the scope; return how many commands and timers that took."""
    of_function = scope == function_scope(run.function)
    if not of_function and not scope.startswith(queue_scope(run.app, "") + "."):
        return 0
    released = of_function and run.held
    if released:
        run = replace(run, held=False)
        if can_wake(run) and not run.paused:
            wake_run(draft, run)
        else:
            draft.put_run(run if run.paused or run.parked else ask_next(draft, run))
    if run.paused:
        return 0
    if released:
        reload(draft, run)
    return arm_again(draft, run) + released
