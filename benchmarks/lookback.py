"""The cost of a look-back against the number of kept events: one shard on disk, without log and worker."""

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks.functions import Figure
from benchmarks.shard import BareShard
from stepstream.contract.codec import Raw
from stepstream.contract.events import EventRecord
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.ids import StepRef
from stepstream.contract.limits import HOUR_MS
from stepstream.contract.matching import EventRouted, Predicate, WaitClosed, WaitOpened
from stepstream.engine.matching.waits import bucket_of
from stepstream.expressions.predicates import index_key

SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
SAMPLES = 300
_NAME = "bench/paid"
_NOW_MS = 1_750_000_000_000
_RECORDS_PER_BATCH = 100
_BAR_US, _BAR_CHARACTERS_MAX = 20, 24


class Shard(BareShard):
    """A shard that keeps events, and opens and closes waits."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, _NOW_MS)
        self.kept = 0
        self.apply(FunctionRegistered("f", "bench", lookback_ms=HOUR_MS))

    def keep(self, count: int) -> None:
        """Keep events until there are `count`."""
        while self.kept < count:
            numbers = range(self.kept, min(self.kept + _RECORDS_PER_BATCH, count))
            self.apply(*(EventRouted(_event(number), _NOW_MS) for number in numbers))
            self.kept = numbers.stop

    def wait(self, run: int, predicate: Predicate) -> float:
        """Open and close the wait of a run; return the CPU time of both (µs)."""
        waiter, bucket = StepRef(f"{run:026d}", "0" * 40), bucket_of(_NAME, predicate)
        begun = time.thread_time()
        self.apply(WaitOpened(waiter, bucket, predicate, _NOW_MS + HOUR_MS, _NOW_MS - HOUR_MS))
        self.apply(WaitClosed(waiter, bucket, looking_back=True))
        return (time.thread_time() - begun) * 1e6


def _event(number: int) -> EventRecord:
    data = Raw(b'{"order_id":"o-%d","amount":%d}' % (number, number % 100))
    return EventRecord(_NAME, data, f"e{number}", _NOW_MS)


def _by_order(number: int) -> Predicate:
    return Predicate((("data.order_id", index_key(f"o-{number}") or ""),))


def _by_condition(_number: int) -> Predicate:
    return Predicate(residual="async.data.amount > 100")


def _median_us(shard: Shard, predicate_of: Callable[[int], Predicate], orders: Sequence[int]) -> float:
    taken = sorted(shard.wait(run, predicate_of(order)) for run, order in enumerate(orders))
    return taken[len(taken) // 2]


def look_back() -> Iterator[Figure]:
    """Measure waits that look back by an equality and by a condition, and the index of a path that is new."""
    with tempfile.TemporaryDirectory() as folder:
        shard = Shard(Path(folder) / "db")
        shard.wait(0, _by_order(0))
        shard.wait(1, _by_condition(0))
        for size in SIZES:
            begun = time.thread_time()
            before = shard.kept
            shard.keep(size)
            keeping = (time.thread_time() - begun) / (size - before) * 1e6
            stride = size // min(size, SAMPLES)
            orders = [number * stride % size for number in range(SAMPLES)]
            found = _median_us(shard, _by_order, orders)
            missed = _median_us(shard, _by_order, range(-SAMPLES, 0))
            condition = _median_us(shard, _by_condition, range(SAMPLES))
            for name, figure in (("match= found", found), ("match= missed", missed), ("condition", condition)):
                bar = "#" * min(round(figure / _BAR_US), _BAR_CHARACTERS_MAX)
                yield Figure(f"{size:>9,} kept, {name:<13} {bar}", figure, "us")
            yield Figure(f"{size:>9,} kept, an event", keeping, "us")
        yield from _learn(shard)
        yield from _expire(shard)
        shard.close()


def _learn(shard: Shard) -> Iterator[Figure]:
    shard.longest_ms = 0.0
    begun = time.thread_time()
    shard.wait(2, Predicate((("data.amount", "n7"),)))
    taken = time.thread_time() - begun
    yield Figure("a kept event, indexed by a path that is new", taken / shard.kept * 1e6, "us")
    yield Figure(f"{shard.kept:>9,} kept: the first answer by a new path", taken, "s")
    yield Figure(f"{shard.kept:>9,} kept: the longest batch of it", shard.longest_ms, "ms")


def _expire(shard: Shard) -> Iterator[Figure]:
    shard.longest_ms, shard.now_ms = 0.0, _NOW_MS + 2 * HOUR_MS
    begun = time.thread_time()
    batches = shard.tick()
    taken = time.thread_time() - begun
    yield Figure("a kept event, deleted with three index entries", taken / shard.kept * 1e6, "us")
    yield Figure(f"{shard.kept:>9,} kept: the longest of {batches:,} batches of it", shard.longest_ms, "ms")


ALL = (look_back,)


def main(_chosen: set[str]) -> Iterator[Figure]:
    """Run the benchmark."""
    yield from look_back()
