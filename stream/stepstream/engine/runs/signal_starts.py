"""Signals that start a run if none waits for them, at the shard that owns the name.

A run that a signal has started is noted there until it ends. Meanwhile it takes all of these signals, in order: the
first of its waits for the name takes the one that started it. A signal that a step does not take, because its wait has
ended, comes back and is treated like a new one: each is taken by one wait, or starts one run.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from stepstream.contract.gates import Excess
from stepstream.contract.ids import run_hash
from stepstream.contract.inbox import SignalRunEnded, SignalWithStart
from stepstream.contract.limits import SIGNALS_QUEUED_BYTES_MAX, SIGNALS_QUEUED_MAX
from stepstream.engine.matching.signal_runs import deliver
from stepstream.engine.runs.admission import start_request
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.rows import SignalRun
from stepstream.engine.state.tables import signal_key, signal_run_key


def signal_or_start(draft: Draft, sent: SignalWithStart) -> None:
    """Give a signal to the step that waits for it, or to the run that its name has started, or start a run."""
    waiter, started = draft.get(signal_key(sent.signal)), draft.get(signal_run_key(sent.signal))
    if waiter and waiter.expires_at > draft.now:
        draft.delete(signal_key(sent.signal))
        deliver(draft, waiter.waiter, sent)
    elif started is None:
        _start(draft, sent)
    elif _is_full([each for each in (started.first, *started.queued, sent) if each]):
        draft.reply(sent.reply_to, "full")
    else:
        kept = replace(sent, reply_to="")
        draft.put(signal_run_key(sent.signal), replace(started, queued=(*started.queued, kept)))
        draft.reply(sent.reply_to, f"queued {started.run_id}")


def _is_full(signals: Sequence[SignalWithStart]) -> bool:
    size = sum(len(bytes(each.data)) + len(bytes(each.event.data)) for each in signals)
    return len(signals) > SIGNALS_QUEUED_MAX or size > SIGNALS_QUEUED_BYTES_MAX


def _start(draft: Draft, sent: SignalWithStart, queued: tuple[SignalWithStart, ...] = ()) -> bool:
    """Start a run by a signal; return whether its function exists."""
    function = draft.function(sent.function)
    if function is None or function.retired:
        draft.reply(sent.reply_to, "function_not_found")
        return False
    hash_part = run_hash(function.id, sent.event.id)
    # A signal starts it at once, without other events.
    start = start_request(draft, function, (replace(sent.event, ts=draft.now),), hash_part, Excess.BATCHED)
    draft.put(signal_run_key(sent.signal), SignalRun(start.run_id, replace(sent, reply_to=""), queued))
    draft.route(hash_part, replace(start, chain=sent.chain, signal=sent.signal))
    draft.reply(sent.reply_to, f"started {start.run_id}")
    return True


def end_signal_run(draft: Draft, ended: SignalRunEnded) -> None:
    """Forget the run that a signal has started; the next of the signals that it has not taken starts another."""
    key = signal_run_key(ended.signal)
    row = draft.get(key)
    if row is None or row.run_id != ended.run_id:
        return
    if ended.successor:
        draft.put(key, replace(row, run_id=ended.successor))
        return
    draft.delete(key)
    queued = row.queued
    while queued and not _start(draft, queued[0], queued[1:]):
        queued = queued[1:]
