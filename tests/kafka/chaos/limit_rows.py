"""The rows of limits in the changelog of a cluster: who holds a permit, and who waits for one."""

import asyncio
from collections.abc import Iterator, Sequence

from stepstream.contract.topics import CHANGELOG
from stepstream.engine.state.gate_rows import GateRun, GateState
from stepstream.engine.state.keys import parse_texts
from stepstream.engine.state.tables import (
    GATE_QUEUE,
    GATE_RUNS,
    GATE_SHARES,
    GATE_TAGS,
    GATES,
    SHARE_QUEUE,
    decode_row,
)
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.ports import LogRecord
from tests.kafka.cluster.history import Tail

# A run ends in the transaction that sends its permit back; the shard of the limit takes it back a moment later.
RETURNED_S_MAX = 60.0
_POLL_S = 0.5
_OF_RUNS = {table.prefix for table in (GATE_RUNS, GATE_QUEUE, SHARE_QUEUE, GATE_SHARES, GATE_TAGS)}


class LimitRows:
    """The rows of all limits as of the records that it was given, and what was wrong in between."""

    def __init__(self) -> None:
        self.rows: dict[bytes, bytes] = {}
        self.queues: set[str] = set()
        self.exceeded: set[str] = set()

    def take(self, records: Sequence[LogRecord]) -> None:
        """Apply records of the changelog, of one shard in order."""
        for record in records:
            if record.key[:1] == GATES.prefix and record.value:
                state = decode_row(GATES.prefix, record.value)
                assert isinstance(state, GateState)
                self._note(state)
            elif record.key[:1] in _OF_RUNS:
                if record.value:
                    self.rows[record.key] = record.value
                else:
                    self.rows.pop(record.key, None)

    def _note(self, state: GateState) -> None:
        gate = state.gate
        if state.waiting:
            self.queues.add(gate.name)
        if gate.has_permits and state.held > gate.limit:
            self.exceeded.add(f"{state.held} hold the limit {gate.id!r} of {gate.limit}")

    def judge(self) -> Iterator[str]:
        """No limit ever had more holders than it allows; all runs have ended, and none is held or waited for."""
        yield from sorted(self.exceeded)
        for key, value in self.rows.items():
            if key[:1] == GATE_RUNS.prefix:
                row = decode_row(GATE_RUNS.prefix, value)
                part, _, holder = key[1:].rpartition(b"\x00\x00")
                (gate,) = parse_texts(part + b"\x00\x00")
                waits = isinstance(row, GateRun) and row.place
                yield f"{holder.decode()} {'waits for' if waits else 'holds'} the limit {gate!r} after its end"
            else:
                yield f"a row of a queue is left: {value.decode()}"


async def read_limit_rows(cluster: Cluster) -> LimitRows:
    """Read the changelog until no limit is held or waited for, or for a minute; all runs have ended."""
    found, tail = LimitRows(), Tail(cluster, CHANGELOG)
    deadline = asyncio.get_running_loop().time() + RETURNED_S_MAX
    try:
        while True:
            async for records in tail.batches():
                found.take(records)
            if not found.rows or asyncio.get_running_loop().time() > deadline:
                return found
            await asyncio.sleep(_POLL_S)
    finally:
        await tail.close()
