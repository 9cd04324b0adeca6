"""The cost of a look-back against the number of kept events: one shard on disk, without log and worker."""

import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from benchmarks.functions import Figure
from stepstream.contract.codec import Raw, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.ids import StepRef
from stepstream.contract.inbox import InboxRecord, StepResolved, decode_inbox
from stepstream.contract.limits import HOUR_MS
from stepstream.contract.matching import EventMatched, EventRouted, LookBackTruncated, Predicate, WaitClosed, WaitOpened
from stepstream.contract.topics import INBOX
from stepstream.engine.matching.waits import bucket_of
from stepstream.engine.state.changes import Delete, Put, Send
from stepstream.engine.state.records import Input
from stepstream.engine.state.tables import encode_row
from stepstream.engine.state.view import Layer
from stepstream.engine.transition import transition
from stepstream.expressions.predicates import index_key
from stepstream.runtime.shard.tables import StoreView
from stepstream.runtime.storage.rocks import RocksStore

SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
SAMPLES = 300
_NAME = "bench/paid"
_NOW_MS = 1_750_000_000_000
_RECORDS_PER_BATCH = 100
_BAR_US, _BAR_CHARACTERS_MAX = 20, 24


class Shard:
    """The tables of one shard on disk, and the batches that change them."""

    def __init__(self, folder: Path) -> None:
        self._store = RocksStore(folder, lambda: _NOW_MS, HOUR_MS)
        self._store.open()
        self._view = StoreView(self._store)
        self._later: deque[Input] = deque()
        self.kept = 0
        self.apply(FunctionRegistered("f", "bench", lookback_ms=HOUR_MS))

    def apply(self, *records: Input) -> None:
        """Apply records in one batch, and those that continue them in further batches."""
        self._commit(records)
        while self._later:
            self._commit([self._later.popleft()])

    def _commit(self, records: Sequence[Input]) -> None:
        layer = Layer(self._view)
        queue: deque[Input] = deque(records)
        while queue:
            for change in transition(layer, queue.popleft(), _NOW_MS).changes:
                match change:
                    case Put(key, row):
                        layer.put(key, row)
                    case Delete(key):
                        layer.put(key, None)
                    case Send(topic=topic, record=record, later=later) if topic == INBOX and not _to_run(record):
                        inbox_record: InboxRecord = decode_inbox(encode(record))
                        (self._later if later else queue).append(inbox_record)
        rows = [(key.encode(), None if row is None else encode_row(row)) for key, row in layer.items()]
        self._store.write(rows, 0)

    def keep(self, count: int) -> None:
        """Keep events until there are `count`."""
        while self.kept < count:
            numbers = range(self.kept, min(self.kept + _RECORDS_PER_BATCH, count))
            self.apply(*(EventRouted(_event(number), _NOW_MS) for number in numbers))
            self.kept = numbers.stop

    def wait(self, run: int, predicate: Predicate) -> float:
        """Open and close the wait of a run; return the time of both (µs)."""
        waiter, bucket = StepRef(f"{run:026d}", "0" * 40), bucket_of(_NAME, predicate)
        begun = time.perf_counter()
        self.apply(WaitOpened(waiter, bucket, predicate, _NOW_MS + HOUR_MS, _NOW_MS - HOUR_MS))
        self.apply(WaitClosed(waiter, bucket, looking_back=True))
        return (time.perf_counter() - begun) * 1e6

    def close(self) -> None:
        """Close the tables."""
        self._store.close()


def _to_run(record: msgspec.Struct) -> bool:
    return isinstance(record, EventMatched | StepResolved | LookBackTruncated)


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
            begun = time.perf_counter()
            before = shard.kept
            shard.keep(size)
            keeping = (time.perf_counter() - begun) / (size - before) * 1e6
            stride = size // min(size, SAMPLES)
            orders = [number * stride % size for number in range(SAMPLES)]
            found = _median_us(shard, _by_order, orders)
            missed = _median_us(shard, _by_order, range(-SAMPLES, 0))
            condition = _median_us(shard, _by_condition, range(SAMPLES))
            for name, figure in (("match= found", found), ("match= missed", missed), ("condition", condition)):
                bar = "#" * min(round(figure / _BAR_US), _BAR_CHARACTERS_MAX)
                yield Figure(f"{size:>9,} kept, {name:<13} {bar}", figure, "us")
            yield Figure(f"{size:>9,} kept, an event", keeping, "us")
        begun = time.perf_counter()
        shard.wait(2, Predicate((("data.amount", "n7"),)))
        learning = (time.perf_counter() - begun) / shard.kept * 1e6
        yield Figure("a kept event, indexed by a path that is new", learning, "us")
        shard.close()


ALL = (look_back,)


def main(_chosen: set[str]) -> Iterator[Figure]:
    """Run the benchmark."""
    yield from look_back()
