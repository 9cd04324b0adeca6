"""Timers whose records could not be applied: when each fires again, and whether its owner still waits for it."""

from msgspec.structs import replace

from stepstream.contract.limits import MINUTE_MS
from stepstream.engine.gates.limit_changes import due_of_setting
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.keys import Key
from stepstream.engine.state.rows import Timer, TimerKind
from stepstream.engine.state.tables import (
    bulk_key,
    lease_key,
    limit_setting_key,
    scope_pause_key,
    timer_due,
    timer_key,
)

_PERIOD_BITS_MAX = 6


def retried(key: Key[Timer], timer: Timer, now: int) -> tuple[Key[Timer], Timer]:
    """Return the timer that replaces one that failed, with its key; it fires 1, 2, 4, … up to 64 minutes later.

    The periods begin at full minutes since 1970, so two timers that replace the same one soon have the same key.
    """
    timer = replace(timer, first_due=timer.first_due or timer_due(key))
    late_minutes = max(now - timer.first_due, 0) // MINUTE_MS
    period = MINUTE_MS << min(late_minutes.bit_length(), _PERIOD_BITS_MAX)
    return timer_key((now // period + 1) * period, timer), timer


def is_outdated(draft: Draft, timer: Timer) -> bool:
    """Return whether the owner of a timer that failed no longer waits for it, or waits for a later one.

    Removing a timer needs its time, which the owner of one that failed does not know. Other kinds check this
    themselves.
    """
    match timer.kind:
        case TimerKind.STEP:
            step = draft.step(timer.owner, timer.name)
            due = step.due if step else 0
        case TimerKind.RUN | TimerKind.DEADLINE | TimerKind.PAUSE:
            due = _due_of_run(draft, timer)
        case TimerKind.LEASE:
            lease = draft.get(lease_key(timer.owner, timer.name))
            due = lease.until if lease else 0
        case TimerKind.SCOPE_PAUSE:
            scope = draft.get(scope_pause_key(timer.owner))
            due = scope.pause.until if scope else 0
        case TimerKind.BULK:
            bulk = draft.get(bulk_key(timer.owner))
            due = bulk.due if bulk else 0
        case TimerKind.LIMIT:
            setting = draft.get(limit_setting_key(timer.owner))
            due = due_of_setting(setting) if setting else 0
        case _:
            return False
    return not 0 < due <= draft.now


def _due_of_run(draft: Draft, timer: Timer) -> int:
    run = draft.run(timer.owner)
    if run is None:
        return 0
    if timer.kind is TimerKind.PAUSE:
        return run.paused.until if run.paused else 0
    return run.deadline if timer.kind is TimerKind.DEADLINE else run.due
