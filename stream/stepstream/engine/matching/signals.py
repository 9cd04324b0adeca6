"""Signals: one step at a time waits for a name, at the shard that owns the name."""

from stepstream.contract.inbox import SignalSent, StepResolved
from stepstream.contract.matching import SignalWaitClosed, SignalWaitOpened
from stepstream.contract.outcomes import ErrorInfo, Failure, Value
from stepstream.engine.matching.signal_runs import take_signal
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import SignalWaiter
from stepstream.engine.state.tables import signal_key


def open_signal(draft: Draft, wait: SignalWaitOpened) -> None:
    """Register a step as the waiter for a signal: the first one stays, unless the new one replaces it."""
    if take_signal(draft, wait.waiter, wait.signal):
        return
    key = signal_key(wait.signal)
    row = draft.get(key)
    if row and row.expires_at > draft.now and row.waiter != wait.waiter:
        winner, loser = (wait.waiter, row.waiter) if wait.replace else (row.waiter, wait.waiter)
        name, code = ("SignalReplaced", "signal-replaced") if wait.replace else ("SignalConflict", "signal-conflict")
        error = ErrorInfo(name, f"run {winner.run_id} waits for the signal {wait.signal!r}", code=code)
        draft.route_to_run(loser.run_id, StepResolved(loser.run_id, loser.step, Failure(error)))
        if not wait.replace:
            return
    draft.put(key, SignalWaiter(wait.waiter, wait.expires_at))


def close_signal(draft: Draft, wait: SignalWaitClosed) -> None:
    """Remove a waiter for a signal, unless another has replaced it."""
    key = signal_key(wait.signal)
    row = draft.get(key)
    if row and row.waiter == wait.waiter:
        draft.delete(key)


def send_signal(draft: Draft, signal: SignalSent) -> None:
    """Deliver a signal to its waiter; without one it is dropped, and the answer says so."""
    key = signal_key(signal.signal)
    row = draft.get(key)
    if row is None or row.expires_at <= draft.now:
        draft.reply(signal.reply_to, "not_found")
        return
    draft.delete(key)
    run_id, step = row.waiter.run_id, row.waiter.step
    draft.route_to_run(run_id, StepResolved(run_id, step, Value(signal.data), by=signal.by))
    draft.reply(signal.reply_to, f"delivered {row.waiter.run_id}")
