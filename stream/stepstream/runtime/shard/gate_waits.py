"""Since when runs wait for limits, for the metrics: read from the tables of a shard in portions."""

from collections.abc import Iterator, Mapping, Sequence

from stepstream.engine.state.gate_keys import gate_part, gate_share_key, share_part
from stepstream.engine.state.gate_rows import GateShare, GateState, GateWaiter, queue_bytes
from stepstream.engine.state.tables import GATE_QUEUE, GATE_TAGS, GATES, SHARE_QUEUE
from stepstream.engine.state.view import View, scan_table

# The limits that one reading of the metrics reads.
_GATES_MAX = 500
# The sub-queues of a limit that one reading reads: their order changes, so later readings read others.
_TAGS_MAX = 100


class OldestWaits:
    """The oldest wait for each name of a limit in one shard, known once all limits were read in turn."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._after = b""
        self._found: dict[str, int] = {}
        self._known: Mapping[str, int] = {}

    def read(self) -> Mapping[str, int]:
        """Read the next limits; return since when a run waits (Unix ms), by the name of the limit."""
        rows = scan_table(self._view, GATES, limit=_GATES_MAX, after=self._after)
        for _, state in rows:
            for waiter in self._first(state) if state.waiting else ():
                if waiter.since:
                    name = state.gate.name
                    self._found[name] = min(self._found.get(name, waiter.since), waiter.since)
        self._after = rows[-1][0].sort if len(rows) == _GATES_MAX else b""
        if not self._after:
            self._known, self._found = self._found, {}
        return self._known

    def _first(self, state: GateState) -> Iterator[GateWaiter]:
        """Yield the first that waits for a limit, and the first of each of its next sub-queues."""
        gate = state.gate.id
        for _, waiter in scan_table(self._view, GATE_QUEUE, gate_part(gate), 1, queue_bytes(state.passed)):
            yield waiter
        tags = GATE_TAGS, gate_part(gate), _TAGS_MAX, queue_bytes(state.tag)
        for _, tag in scan_table(self._view, *tags) if state.shares else ():
            share = self._view.get(gate_share_key(gate, tag.share))
            passed = queue_bytes(share.passed) if isinstance(share, GateShare) else b""
            for _, waiting in scan_table(self._view, SHARE_QUEUE, share_part(gate, tag.share), 1, passed):
                yield waiting


def oldest_of(waits: Sequence[Mapping[str, int]], now_ms: int, most: int) -> dict[str, float]:
    """Return the age of the oldest wait in all shards (seconds), by the name of the limit, of the `most` oldest."""
    since: dict[str, int] = {}
    for name, at in (pair for each in waits for pair in each.items()):
        since[name] = min(since.get(name, at), at)
    oldest = sorted(since.items(), key=lambda pair: pair[1])[:most]
    return {name: max(now_ms - at, 0) / 1_000 for name, at in oldest}
