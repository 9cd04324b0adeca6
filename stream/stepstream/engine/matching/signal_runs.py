"""The open runs that signals have started, at the shard of the signal: what their waits and their ends do there."""

from msgspec.structs import replace

from stepstream.contract.ids import StepRef
from stepstream.contract.inbox import SignalRunEnded, SignalWithStart, StepResolved
from stepstream.contract.outcomes import Value
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import Run
from stepstream.engine.state.tables import signal_run_key


def deliver(draft: Draft, waiter: StepRef, sent: SignalWithStart) -> None:
    """Send a signal to the step that waits for it; it comes back if the step does not take it."""
    draft.route_to_run(waiter.run_id, StepResolved(waiter.run_id, waiter.step, Value(sent.data), sent, sent.by))


def take_signal(draft: Draft, waiter: StepRef, signal: str) -> bool:
    """Give a new wait the next signal of its run, if the signal has started it; return whether there was one."""
    key = signal_run_key(signal)
    row = draft.get(key)
    if row is None or row.run_id != waiter.run_id:
        return False
    if row.first:
        draft.put(key, replace(row, first=None))
        deliver(draft, waiter, row.first)
    elif row.queued:
        draft.put(key, replace(row, queued=row.queued[1:]))
        deliver(draft, waiter, row.queued[0])
    return bool(row.first or row.queued)


def leave_signal(draft: Draft, run: Run, successor: str) -> None:
    """Report the end of a run to the shard of the signal that has started it."""
    if run.signal:
        draft.route(run.signal, SignalRunEnded(run.signal, run.run_id, successor))
