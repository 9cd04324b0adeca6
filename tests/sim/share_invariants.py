"""What must hold for the sub-queues of limits whenever the system is idle."""

from collections.abc import Iterator, Sequence

from stepstream.contract.limits import GATE_WEIGHT_ONE
from stepstream.engine.gates.shares import tag_cost
from stepstream.engine.state.gate_keys import gate_part, gate_tag_key, share_part
from stepstream.engine.state.gate_rows import GateShare, GateState, GateTag
from stepstream.engine.state.tables import GATE_SHARES, GATE_TAGS, GATES, SHARE_QUEUE, decode_row
from stepstream.runtime.storage.journal import MemoryStore

# No weight in the programs is less than 1, and no body uses more units.
_UNITS_MAX = 10


def check_shares(stores: Sequence[MemoryStore]) -> Iterator[str]:
    """Each sub-queue has one tag, and counts those that wait in it; none is left without its gate."""
    for store in stores:
        rows = [decode_row(GATES.prefix, value) for _, value in store.scan(GATES.prefix, len(store.rows))]
        states = [row for row in rows if isinstance(row, GateState)]
        for table in (GATE_SHARES, GATE_TAGS):
            found, counted = len(store.scan(table.prefix, len(store.rows))), sum(state.shares for state in states)
            if found != counted:
                yield f"gates count {counted} sub-queues, and table {table.prefix.decode()!r} has {found}"
        for state in states:
            yield from _check_tags(store, state)


def _check_tags(store: MemoryStore, state: GateState) -> Iterator[str]:
    """The tag of a sub-queue is ahead by the cost of its last run at most: so each has its share of the limit."""
    gate = state.gate.id
    before = GATE_SHARES.prefix + gate_part(gate)
    most = tag_cost(GATE_WEIGHT_ONE, _UNITS_MAX if state.gate.metered else 1)
    for key, value in store.scan(before, len(store.rows)):
        share, row = key.removeprefix(before).decode(), decode_row(GATE_SHARES.prefix, value)
        assert isinstance(row, GateShare)
        tag = store.rows.get(gate_tag_key(gate, row.tag).encode())
        if tag is None or decode_row(GATE_TAGS.prefix, tag) != GateTag(share):
            yield f"the tag {row.tag} of {share!r} at {gate!r} is that of {tag!r}"
        if not (state.tag < row.tag and row.tag[0] - state.tag[0] <= most):
            yield f"{share!r} has the tag {row.tag}, and {gate!r} served {state.tag}"
        waiting = len(store.scan(SHARE_QUEUE.prefix + share_part(gate, share), len(store.rows)))
        if waiting != row.waiting:
            yield f"{share!r} at {gate!r} counts {row.waiting}, and {waiting} wait in it"
