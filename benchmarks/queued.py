"""What a grant costs at a limit with a long queue, and how much memory and disk the queue takes.

    [QUEUED=100000] python -m benchmarks queued [in_order] [fair]

It is the engine of one shard with its tables on disk, without a log and without workers.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.functions import Figure, chosen
from benchmarks.memory import memory_gb
from benchmarks.shard import BareShard
from stepstream import App, Concurrency, Context, Event, on
from stepstream.contract.codec import Raw
from stepstream.contract.gates import gate_id
from stepstream.contract.inbox import RunReturned
from stepstream.engine.state.gate_keys import gate_key
from stepstream.engine.state.gate_rows import GateState
from stepstream.engine.state.records import EventReceived
from stepstream.engine.state.rows import Run
from stepstream.engine.state.tables import run_key
from stepstream.sdk.event import to_record

QUEUED = int(os.environ.get("QUEUED", "100000"))
_FEW = 1_000
_PORTIONS, _GRANTS = 5, 100
_PER_BATCH = 50
# Ten events a millisecond are about as many as the engine takes in.
_PER_MS = 10
_TENANTS = 1_000
_NOW_MS = 1_750_000_000_000
_OUTPUT = Raw(b'"done"')


class _Queue:
    """A shard whose runs wait for one limit, which one of them holds."""

    def __init__(self, folder: Path, fair: str) -> None:
        app = App("queued")

        @app.function(on("queued/go"), concurrency=Concurrency(1, counts="runs", fair=fair))
        async def queued(_ctx: Context) -> str:
            return "done"

        self._gate = gate_key(gate_id(queued.gates[0].name, ""))
        self._shard = BareShard(folder, _NOW_MS)
        self._shard.apply(queued.registration())
        self._sent = 0

    @property
    def state(self) -> GateState:
        """The limit."""
        found = self._shard.view.get(self._gate)
        assert isinstance(found, GateState)
        return found

    def fill(self, waiting: int) -> float:
        """Send events until so many runs wait; return the CPU of each (us)."""
        until = self._sent + waiting - (self.state.waiting if self._sent else -1)
        count, begun = until - self._sent, time.thread_time()
        for start in range(self._sent, until, _PER_BATCH):
            self._shard.now_ms = _NOW_MS + (start + _PER_BATCH) // _PER_MS
            self._shard.apply(*(_received(number) for number in range(start, min(start + _PER_BATCH, until))))
        self._sent = until
        return (time.thread_time() - begun) / count * 1e6

    def grant(self) -> float:
        """End runs one after the other; return the CPU of an end, with the grant to the next run (us, median)."""
        return statistics.median(self._grant() for _ in range(_PORTIONS))

    def _grant(self) -> float:
        begun = time.thread_time()
        for _ in range(_GRANTS):
            holder = self.state.latest
            run = self._shard.view.get(run_key(holder))
            assert isinstance(run, Run)
            self._shard.apply(RunReturned(holder, run.epoch, _OUTPUT))
        return (time.thread_time() - begun) / _GRANTS * 1e6

    def close(self) -> None:
        """Write to disk what is in memory."""
        self._shard.close()


def _received(number: int) -> EventReceived:
    at_ms = _NOW_MS + number // _PER_MS
    event = to_record(Event("queued/go", {"n": number, "tenant": number % _TENANTS}, ts=at_ms))
    return EventReceived(event, str(number), at_ms)


def measured(most: int, fair: str = "") -> Iterator[Figure]:
    """Measure with 1,000 runs in the queue, ten times as many, and so on, up to a number."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "db"
        queue, waiting, first = _Queue(path, fair), min(_FEW, most), 0.0
        while True:
            asked_us, memory = queue.fill(waiting), memory_gb("VmRSS")
            granted_us = queue.grant()
            first = first or granted_us
            yield Figure(f"{waiting:>9,} queued: a run until it is queued, CPU", asked_us, "us")
            yield Figure(f"{waiting:>9,} queued: an end and the next grant, CPU", granted_us, "us")
            yield Figure(f"{waiting:>9,} queued: memory of the process", memory * 1_000, "MB")
            if waiting == most:
                break
            waiting = min(waiting * 10, most)
        yield Figure("a grant at the longest queue against the shortest", granted_us / first, "x", "<= 2")
        queue.close()
        size = sum(file.stat().st_size for file in path.iterdir())
        yield Figure("tables on disk", size / 1e6, "MB")
        yield Figure("tables on disk, for each queued run", size / most, "bytes")


def in_order() -> Iterator[Figure]:
    """Measure a queue in order of arrival."""
    yield from measured(QUEUED)


def fair() -> Iterator[Figure]:
    """Measure the sub-queues of a thousand tenants."""
    yield from measured(QUEUED, "event.data.tenant")


ALL = (in_order, fair)


def main(requested: set[str]) -> Iterator[Figure]:
    """Yield the figures of the requested benchmarks, or of all."""
    for measure in chosen(ALL, requested):
        yield from measure()
