"""Gates: which of the runs that ask for one pass it, in the order in which they asked.

Who holds a permit is a set of run ids, never only a number: a run that asks or leaves twice changes nothing the second
time, and a run leaves its gates in the transaction that ends it. A gate with a period follows the generic cell rate
algorithm: a start is allowed when the theoretical arrival time of the next one is at most the burst ahead; at one that
is metered, each unit that a body uses moves that time. At a debounce each run that comes sets that time again, and
takes the place of the one that waits. Those that are batched wait until they are enough, or until that time. The first
of them sets it, and at a gate that is `renewed` each further one sets it again. At a gate that is fair, runs wait in
sub-queues.
"""

from itertools import islice
from typing import Any

from msgspec.structs import replace

from stepstream.contract.codec import encode
from stepstream.contract.gates import (
    BatchedRun,
    Excess,
    Gate,
    GateAsked,
    GateGranted,
    GateLeft,
    GateRefused,
    GateSettled,
)
from stepstream.contract.ids import run_routing, time_part
from stepstream.contract.limits import EVENTS_PER_BATCH_BYTES_MAX, PRIORITY_MS_MAX
from stepstream.engine.gates.overrides import in_force, shown
from stepstream.engine.gates.shares import (
    charge_share,
    forget_shares,
    join_share,
    leave_share,
    next_by_tag,
    start_by_tag,
)
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.gate_keys import gate_key, gate_part, gate_place_key, gate_run_key, place_in_queue
from stepstream.engine.state.gate_rows import GateRun, GateState, GateWaiter, ShareWaiter, queue_bytes
from stepstream.engine.state.keys import Key
from stepstream.engine.state.rows import Timer, TimerKind
from stepstream.engine.state.tables import GATE_QUEUE

_US_PER_MS = 1_000
# The runs of sub-queues that one record lets pass: each is read by itself.
_TAGS_MAX = 64


def ask_gate(draft: Draft, asked: GateAsked) -> None:
    """Let a run pass a gate, refuse it, or put it into the queue."""
    gate = asked.gate
    before = draft.get(gate_key(gate.id))
    state = _opened(draft, replace(before, gate=gate) if before else GateState(gate))
    if asked.after:
        state = _return_permit(draft, state, asked.after)
    if draft.get(gate_run_key(gate.id, asked.run_id, asked.step)) is None:
        if gate.excess is Excess.DEBOUNCED:
            state = _debounce(draft, state, asked)
        elif gate.excess is Excess.BATCHED:
            state = _batch(draft, state, asked)
        elif not state.waiting and _is_free(draft, state):
            state = _grant(draft, state, asked)
            draft.route_to_run(asked.run_id, GateGranted(gate.id, asked.run_id, asked.step, asked.number))
        elif gate.excess is Excess.WAIT or (gate.excess is Excess.REPLACE and not asked.after):
            state = _enqueue(draft, state, asked)
        else:
            draft.route_to_run(asked.run_id, GateRefused(gate, asked.run_id, state.latest))
    _write(draft, before, _let_pass(draft, state), gate)


def _return_permit(draft: Draft, state: GateState, run_id: str) -> GateState:
    """Take back the permit of a run that continues as another one, and let the one pass that replaces them."""
    if draft.get(gate_run_key(state.gate.id, run_id)) is None:
        return state
    draft.delete(gate_run_key(state.gate.id, run_id))
    draft.count("open_gate_permits", state.gate.name, amount=-1)
    return _let_pass(draft, replace(state, held=state.held - 1))


def _debounce(draft: Draft, state: GateState, asked: GateAsked) -> GateState:
    """Let a run wait for a period in place of the one that waits, unless that one is of a later event."""
    state, gate = _renewed(draft, state), state.gate
    for key, waiter in islice(draft.walk(GATE_QUEUE, gate_part(gate.id), queue_bytes(state.passed)), 1):
        if time_part(waiter.run_id) > time_part(asked.run_id):
            draft.route_to_run(asked.run_id, GateRefused(gate, asked.run_id, waiter.run_id))
            return state
        state = _dequeue(draft, state, key, waiter)
        draft.route_to_run(waiter.run_id, GateRefused(gate, waiter.run_id, asked.run_id))
    return _enqueue(draft, state, asked)


def _renewed(draft: Draft, state: GateState) -> GateState:
    """Return a gate whose period begins now, and ends at the latest so long after the first of the runs that wait."""
    gate, first = state.gate, state.first if state.waiting else draft.now
    due = draft.now + gate.period_ms
    return replace(state, first=first, next_us=(min(due, first + gate.most_ms) if gate.most_ms else due) * _US_PER_MS)


def _batch(draft: Draft, state: GateState, asked: GateAsked) -> GateState:
    """Let a run wait for its batch; the one before begins without it if it would become too large."""
    size = _event_bytes(asked)
    while state.waiting and state.bytes + size > EVENTS_PER_BATCH_BYTES_MAX:
        state = _begin_batch(draft, state)
    if state.gate.renewed or not state.waiting:
        state = _renewed(draft, state)
    return replace(_enqueue(draft, state, asked), bytes=state.bytes + size)


def _begin_batch(draft: Draft, state: GateState) -> GateState:
    """Let the first run of a batch pass, with the events of the others, which end when it has them."""
    gate = state.gate
    batch: list[BatchedRun] = []
    since, place = 0, 0
    for key, waiter in islice(draft.walk(GATE_QUEUE, gate_part(gate.id), queue_bytes(state.passed)), gate.size):
        state = _dequeue(draft, state, key, waiter)
        batch += [waiter.batched] if waiter.batched else []
        since, place = since or waiter.since, place or waiter.place
    leader, *others = batch
    granted = GateGranted(gate.id, leader.run_id, others=tuple(others), waited_ms=_waited(draft, since), place=place)
    draft.route_later(run_routing(leader.run_id), granted)
    return state if state.waiting else replace(state, next_us=0)


def _event_bytes(asked: GateAsked | GateWaiter | None) -> int:
    return len(encode(asked.batched.event)) if asked and asked.batched else 0


def _enqueue(draft: Draft, state: GateState, asked: GateAsked) -> GateState:
    if state.gate.excess is Excess.REPLACE:
        state = _replace_others(draft, state, asked.run_id)
    gate, asked_at, places = state.gate, max(draft.now, state.asked_at), state.places + 1
    place, share = (asked_at + PRIORITY_MS_MAX - asked.gate.ahead_ms, places), asked.gate.share
    if share is None and state.shares:
        share = ""  # Another release of the function was fair, and runs wait in sub-queues.
    draft.put(gate_run_key(gate.id, asked.run_id, asked.step), GateRun(place, share))
    request = asked.run_id, draft.now, asked.step, asked.number, asked.batched, asked.gate.units
    waiter = GateWaiter(*request) if share is None else ShareWaiter(*request, share, asked.gate.weight)
    waiter = replace(waiter, place=state.waiting + 1)
    draft.put(gate_place_key(gate.id, place, share), waiter)
    draft.count("gate_waits", gate.name)
    draft.count("open_gate_waiters", gate.name)
    state = replace(state, waiting=state.waiting + 1, places=places, asked_at=asked_at)
    if share is not None:
        return join_share(draft, state, share, place)
    passed = min(state.passed, (place[0], places - 1))
    return replace(state, passed=passed)


def _replace_others(draft: Draft, state: GateState, by: str) -> GateState:
    """Have the run that holds the permit end, and those that wait, a bounded number; the latter leave the queue now."""
    gate, most = state.gate, draft.limits.waits_per_match_max
    draft.route_later(run_routing(state.latest), GateRefused(gate, state.latest, by))
    for key, waiter in islice(draft.walk(GATE_QUEUE, gate_part(gate.id), queue_bytes(state.passed)), most):
        state = _dequeue(draft, state, key, waiter)
        draft.route_later(run_routing(waiter.run_id), GateRefused(gate, waiter.run_id, by))
    return state


def _dequeue(draft: Draft, state: GateState, key: Key[Any], waiter: GateWaiter) -> GateState:
    draft.delete(key)
    draft.delete(gate_run_key(state.gate.id, waiter.run_id, waiter.step))
    draft.count("open_gate_waiters", state.gate.name, amount=-1)
    if waiter.share is not None:
        leave_share(draft, state.gate.id, waiter.share, place_in_queue(key))
        return replace(state, waiting=state.waiting - 1)
    left = state.bytes - _event_bytes(waiter)
    return replace(state, waiting=state.waiting - 1, passed=place_in_queue(key), bytes=left)


def leave_gate(draft: Draft, left: GateLeft) -> None:
    """Take back the permit of a run that has ended, or its place in the queue, and let others pass."""
    holder = gate_run_key(left.gate, left.run_id, left.step)
    before, row = draft.get(gate_key(left.gate)), draft.get(holder)
    if before is None or row is None:
        if before and (before.gate.excess, before.latest) == (Excess.IDEMPOTENT, left.run_id):
            _write(draft, before, replace(before, next_us=0), before.gate)
        return
    draft.delete(holder)
    draft.count("open_gate_waiters" if row.place else "open_gate_permits", before.gate.name, amount=-1)
    if row.place:
        place = gate_place_key(left.gate, row.place, row.share)
        size = _event_bytes(draft.get(place)) if before.bytes else 0
        draft.delete(place)
        if row.share is not None:
            leave_share(draft, left.gate, row.share)
        state = replace(before, waiting=before.waiting - 1, bytes=before.bytes - size)
    else:
        state = replace(before, held=before.held - 1)
    _write(draft, before, _let_pass(draft, _opened(draft, state)), before.gate)


def fire_gate(draft: Draft, gate: str) -> None:
    """Let runs pass a gate: the time of the next start has come, or more may pass than one record lets."""
    if row := draft.get(gate_key(gate)):
        before = replace(row, due=0)
        _write(draft, before, _let_pass(draft, _opened(draft, before)), before.gate)


def wake_gate(draft: Draft, gate: str) -> None:
    """Set the timer of a gate whose numbers an operator changed: it lets runs pass, a bounded number in each batch."""
    if before := draft.get(gate_key(gate)):
        _write(draft, before, _opened(draft, before), before.gate)


def _let_pass(draft: Draft, state: GateState) -> GateState:
    """Let those that wait pass while the gate is free, a bounded number.

    Places up to `passed` are not read: a store keeps deleted rows for a while. Each grant is a separate
    input, because it sends the events of its run to a worker, and many of them would not fit into a batch.
    """
    if not state.waiting or not _is_free(draft, state):
        return state
    if state.gate.excess is Excess.BATCHED:
        return _begin_batch(draft, state)
    gate, most = state.gate.id, draft.limits.waits_per_match_max
    for key, waiter in islice(draft.walk(GATE_QUEUE, gate_part(gate), queue_bytes(state.passed)), most):
        state = _let_one_pass(draft, state, key, waiter)
        if not _is_free(draft, state):
            return state
    return _serve_shares(draft, state) if state.shares else state


def _serve_shares(draft: Draft, state: GateState) -> GateState:
    """Let those in sub-queues pass; those that asked before the gate was fair have passed."""
    for _ in range(_TAGS_MAX):
        state, first = next_by_tag(draft, state)
        if first is None:
            break
        state = _let_one_pass(draft, state, *first)
        if not _is_free(draft, state):
            break
    return state


def _let_one_pass(draft: Draft, state: GateState, key: Key[Any], waiter: GateWaiter) -> GateState:
    waited = _waited(draft, waiter.since), waiter.place
    granted = GateGranted(state.gate.id, waiter.run_id, waiter.step, waiter.number, (), *waited)
    draft.route_later(run_routing(waiter.run_id), granted)
    return _grant(draft, _dequeue(draft, state, key, waiter), waiter)


def _waited(draft: Draft, since: int) -> int:
    return max(draft.now - since, 0) if since else 0


def _is_free(draft: Draft, state: GateState) -> bool:
    if state.gate.excess is Excess.BATCHED and _is_full(state):
        return True
    if state.gate.has_permits:
        return state.held < state.gate.limit
    return state.gate.limit > 0 and _next_start_us(state) <= draft.now * _US_PER_MS


def _is_full(state: GateState) -> bool:
    """Return whether a batch has as many events as it may have."""
    return state.waiting >= state.gate.size or state.bytes >= EVENTS_PER_BATCH_BYTES_MAX


def _next_start_us(state: GateState) -> int:
    """Return from when on a gate with a period allows the next start (Unix microseconds)."""
    return state.next_us - state.gate.burst * _interval_us(state.gate)


def next_start(draft: Draft, state: GateState) -> int:
    """Return from when on a gate with a period allows the next start (Unix ms), 0 if it allows one now."""
    due = -(-_next_start_us(_opened(draft, state)) // _US_PER_MS)
    return due if state.gate.period_ms and due > draft.now else 0


def _interval_us(gate: Gate) -> int:
    return max(gate.period_ms * _US_PER_MS // max(gate.limit, 1), 1)


def _opened(draft: Draft, state: GateState) -> GateState:
    """Return a gate as it is used: with the numbers that count now."""
    return _corrected(draft, replace(state, gate=in_force(draft, state.gate)))


def _corrected(draft: Draft, state: GateState) -> GateState:
    """Return a gate whose next start is no later than one just now would make it.

    It is later if the limits were lower before, if the clock of the last owner was ahead, or if bodies used more of a
    gate that is metered than it has for a period.
    """
    gate, interval_us = state.gate, _interval_us(state.gate)
    latest_us = draft.now * _US_PER_MS + gate.burst * interval_us + _most_at_once_us(gate)
    return replace(state, next_us=latest_us) if state.next_us > latest_us else state


def _most_at_once_us(gate: Gate) -> int:
    """Return for how long a start may use a gate with a period (microseconds)."""
    return gate.period_ms * _US_PER_MS if gate.metered else _interval_us(gate)


def settle_gate(draft: Draft, settled: GateSettled) -> None:
    """Count what a body has used of a gate that is metered, in place of what it asked for."""
    before = draft.get(gate_key(settled.gate.id))
    state = before or GateState(settled.gate)
    if state.gate.has_permits:
        return  # Another release has made it a limit on bodies that are running.
    more_us = (settled.units - settled.gate.units) * _interval_us(shown(draft, state.gate)[0])
    next_us = max(state.next_us, draft.now * _US_PER_MS) if more_us > 0 else state.next_us
    state = charge_share(draft, state, settled)
    after = _opened(draft, replace(state, next_us=next_us + more_us))
    _write(draft, before, _let_pass(draft, after), state.gate)


def _grant(draft: Draft, state: GateState, asked: GateAsked | GateWaiter) -> GateState:
    """Give a run or a step its permit, or count its start; return the gate after that."""
    gate, request = state.gate, asked.gate if isinstance(asked, GateAsked) else asked
    state = replace(state, latest=asked.run_id)
    if gate.excess is Excess.DEBOUNCED:
        return replace(state, next_us=0)
    if request.share is not None:
        state = start_by_tag(draft, state, request.share, request.weight, request.units)
    if gate.has_permits:
        draft.put(gate_run_key(gate.id, asked.run_id, asked.step), GateRun())
        draft.count("open_gate_permits", gate.name)
        return replace(state, held=state.held + 1)
    return replace(state, next_us=max(state.next_us, draft.now * _US_PER_MS) + request.units * _interval_us(gate))


def _write(draft: Draft, before: GateState | None, after: GateState, rule: Gate) -> None:
    """Write a gate with its timer and the numbers in code, or delete it once it restricts nothing."""
    gate = rule.id
    after = replace(after, due=_due(draft, after), gate=rule)
    if after.shares and not (after.held or after.waiting or after.due):
        after = forget_shares(draft, after)
    timer = Timer(TimerKind.GATE, gate)
    if before and before.due != after.due:
        draft.disarm(before.due, timer)
    if after.due and (before is None or before.due != after.due):
        draft.arm(after.due, timer)
    if after.held or after.waiting or after.due:
        draft.put(gate_key(gate), after)
    elif before:
        draft.delete(gate_key(gate))


def _due(draft: Draft, state: GateState) -> int:
    """Return when more runs may pass, or when a gate with a period may be forgotten (Unix ms); 0 for neither."""
    if state.waiting and _is_free(draft, state):
        return draft.now
    if state.gate.has_permits:
        return 0
    due_us = _next_start_us(state) if state.waiting else state.next_us
    return -(-due_us // _US_PER_MS) if due_us > draft.now * _US_PER_MS else 0
