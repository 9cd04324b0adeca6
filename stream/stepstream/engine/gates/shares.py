"""The sub-queues of a gate that is fair: they share it by their weights, whatever waits in the others.

This is start-time fair queueing (Goyal, Vin and Cheng, 1996). Each sub-queue has a tag, the virtual time at which the
next of its runs passes; the smallest tag is served first. A run that passes adds its cost to the tag: its units,
divided by the weight. The virtual time of the gate is the tag that it served last, and a new sub-queue begins there. So
one that has not used its share precedes those that always wait, and none saves up shares.

The tag belongs to the sub-queue, not to its runs: a run that is cancelled while it waits costs nothing, and a priority
moves a run forward within its sub-queue. One that is idle is forgotten when its tag would be served, or when nothing
holds the gate or waits for it. A request and a grant read a few rows, however many runs wait.
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from itertools import islice
from typing import Any

from msgspec.structs import replace

from stepstream.contract.gates import GateSettled
from stepstream.engine.state.draft import Draft
from stepstream.engine.state.gate_keys import gate_part, gate_share_key, gate_tag_key, place_in_queue, share_part
from stepstream.engine.state.gate_rows import (
    GateShare,
    GateState,
    GateTag,
    GateWaiter,
    QueuePlace,
    ShareWaiter,
    queue_bytes,
)
from stepstream.engine.state.keys import Key
from stepstream.engine.state.tables import GATE_QUEUE, GATE_TAGS, SHARE_QUEUE

# What a unit costs at a weight of a thousandth. So it costs a million at a weight of 1, and a thousand at the highest:
# in whole numbers, weights that differ by a thousandth of themselves have different costs.
_UNIT_COST = 1_000_000_000
# Sub-queues with larger tags, after years of use without a break, are served in order of arrival.
_TAG_MAX = 2**63 - 1


def tag_cost(weight: int, units: int = 1) -> int:
    """Return what units add to the tag of a sub-queue with a weight (thousandths)."""
    return units * _UNIT_COST // weight


def join_share(draft: Draft, state: GateState, share: str, place: QueuePlace) -> GateState:
    """Count a run that waits at a place of a sub-queue."""
    state, row = _known(draft, state, share)
    before = place[0], place[1] - 1
    passed = min(row.passed, before) if row.waiting else before
    draft.put(gate_share_key(state.gate.id, share), replace(row, waiting=row.waiting + 1, passed=passed))
    return state


def leave_share(draft: Draft, gate: str, share: str, passed: QueuePlace | None = None) -> None:
    """Count a run that no longer waits in a sub-queue, in which none is left at the place that it `passed`."""
    key = gate_share_key(gate, share)
    if row := draft.get(key):
        draft.put(key, replace(row, waiting=row.waiting - 1, passed=passed or row.passed))


def next_by_tag(draft: Draft, state: GateState) -> tuple[GateState, tuple[Key[ShareWaiter], ShareWaiter] | None]:
    """Return the first run of the sub-queue with the smallest tag; None if more idle ones precede it than are read."""
    for tag, share in _tags(draft, state):
        row = draft.get(gate_share_key(state.gate.id, share))
        if row and row.waiting:
            part = share_part(state.gate.id, share)
            return state, draft.scan(SHARE_QUEUE, part, 1, queue_bytes(row.passed))[0]
        state = _forget(draft, state, tag, share)
    return state, None


def start_by_tag(draft: Draft, state: GateState, share: str, weight: int, units: int) -> GateState:
    """Serve a sub-queue; those with smaller tags are idle."""
    state, row = _known(draft, state, share)
    for tag, other in _tags(draft, state):
        if other == share:
            state = replace(state, tag=tag)
            break
        state = _forget(draft, state, tag, other)
    return _move(draft, state, share, row, tag_cost(weight, units))


def charge_share(draft: Draft, state: GateState, settled: GateSettled) -> GateState:
    """Charge a sub-queue for what a body used in place of what it asked for."""
    gate = settled.gate
    if gate.share is None:
        return state
    state, row = _known(draft, state, gate.share)
    return _move(draft, state, gate.share, row, tag_cost(gate.weight, settled.units - gate.units))


def forget_shares(draft: Draft, state: GateState) -> GateState:
    """Forget the sub-queues of a gate that nothing uses, a bounded number; its timer has the others."""
    for tag, share in _tags(draft, state):
        state = _forget(draft, state, tag, share)
    return replace(state, due=draft.now) if state.shares else state


def in_order(draft: Draft, state: GateState, tags_max: int) -> Iterator[tuple[Key[Any], GateWaiter]]:
    """Yield those that wait for a gate in the order in which they pass if no other asks; read so many tags at most."""
    gate = state.gate.id
    yield from draft.walk(GATE_QUEUE, gate_part(gate), queue_bytes(state.passed))
    tags = _tags(draft, state, tags_max) if state.shares else iter(())
    queues: dict[str, Iterator[tuple[Key[ShareWaiter], ShareWaiter]]] = {}
    upcoming, later, number = next(tags, None), list[tuple[QueuePlace, str]](), state.places
    while upcoming or later:
        if upcoming and (not later or upcoming < later[0]):
            (tag, share), upcoming = upcoming, next(tags, None)
            row = draft.get(gate_share_key(gate, share))
            passed = queue_bytes(row.passed if row else (0, 0))
            queues[share] = iter(draft.walk(SHARE_QUEUE, share_part(gate, share), passed))
        else:
            tag, share = heappop(later)
        if first := next(queues[share], None):
            yield first
            number += 1
            heappush(later, ((tag[0] + tag_cost(first[1].weight, first[1].units), number), share))


def _tags(draft: Draft, state: GateState, most: int = 0) -> Iterator[tuple[QueuePlace, str]]:
    """Yield the smallest tags, a bounded number, each with its sub-queue."""
    rows = draft.walk(GATE_TAGS, gate_part(state.gate.id), queue_bytes(state.tag))
    bounded = islice(rows, most or draft.limits.waits_per_match_max)
    return ((place_in_queue(key), row.share) for key, row in bounded)


def _known(draft: Draft, state: GateState, share: str) -> tuple[GateState, GateShare]:
    """Return a sub-queue; a new one has the tag that was served last, behind those with the same."""
    if row := draft.get(gate_share_key(state.gate.id, share)):
        return state, row
    tag = state.tag[0], state.places + 1
    state = _put(draft, replace(state, shares=state.shares + 1), share, row := GateShare(tag))
    return state, row


def _move(draft: Draft, state: GateState, share: str, row: GateShare, cost: int) -> GateState:
    draft.delete(gate_tag_key(state.gate.id, row.tag))
    at = min(max(row.tag[0] + cost, state.tag[0]), _TAG_MAX)
    return _put(draft, state, share, replace(row, tag=(at, state.places + 1)))


def _put(draft: Draft, state: GateState, share: str, row: GateShare) -> GateState:
    draft.put(gate_tag_key(state.gate.id, row.tag), GateTag(share))
    draft.put(gate_share_key(state.gate.id, share), row)
    return replace(state, places=row.tag[1])


def _forget(draft: Draft, state: GateState, tag: QueuePlace, share: str) -> GateState:
    """Forget a sub-queue that is idle, and whose tag would be served."""
    draft.delete(gate_tag_key(state.gate.id, tag))
    draft.delete(gate_share_key(state.gate.id, share))
    return replace(state, shares=state.shares - 1, tag=tag)
