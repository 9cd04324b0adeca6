"""The cost of a match as the number of waits, values, paths and conditions of one event name grows."""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.functions import Figure
from benchmarks.shard import BareShard
from stepstream.contract.codec import Raw
from stepstream.contract.events import EventRecord
from stepstream.contract.ids import StepRef
from stepstream.contract.limits import DAY_MS
from stepstream.contract.matching import EventRouted, Predicate, WaitOpened
from stepstream.engine.matching.waits import bucket_of
from stepstream.expressions.predicates import index_key

_NAME = "bench/go"
_NOW_MS = 1_750_000_000_000
_SAMPLES = 400
_PER_BATCH = 50
_PASSING = 20_000
_Predicates = Callable[[int], Predicate]


def _wait(number: int, predicate: Predicate) -> WaitOpened:
    waiter = StepRef(f"{number:026d}", "0" * 40)
    return WaitOpened(waiter, bucket_of(_NAME, predicate), predicate, _NOW_MS + DAY_MS)


def _event(number: int, data: bytes) -> EventRouted:
    return EventRouted(EventRecord(_NAME, Raw(data), f"e{number}"))


def _equals(path: str, value: str) -> Predicate:
    return Predicate(((path, index_key(value) or ""),))


@contextmanager
def _shard() -> Iterator[BareShard]:
    with tempfile.TemporaryDirectory() as folder:
        shard = BareShard(Path(folder) / "db", _NOW_MS)
        yield shard
        shard.close()


def _open(shard: BareShard, count: int, predicate_of: _Predicates) -> None:
    for at in range(0, count, _PER_BATCH):
        shard.apply(*(_wait(number, predicate_of(number)) for number in range(at, min(at + _PER_BATCH, count))))


def _us(shard: BareShard, events: list[EventRouted]) -> float:
    begun = time.thread_time()
    for at in range(0, len(events), _PER_BATCH):
        shard.apply(*events[at : at + _PER_BATCH])
    return (time.thread_time() - begun) / len(events) * 1e6


def bucket() -> Iterator[Figure]:
    """Measure waits that come and go in one bucket: an event ends each before the next is opened."""
    portion = _PASSING // 8
    taken: list[float] = []
    with _shard() as shard:
        for at in range(0, _PASSING, portion):
            begun = time.thread_time()
            for number in range(at, at + portion):
                shard.apply(_wait(number, _equals("data.key", "same")))
                shard.apply(_event(number, b'{"key":"same"}'))
            taken.append((time.thread_time() - begun) / portion * 1e6)
    yield Figure(f"a wait and its event, first {portion:,} of a bucket: CPU", taken[0], "us")
    yield Figure(f"a wait and its event, last {portion:,} of {_PASSING:,}: CPU", taken[-1], "us")


def _values() -> Iterator[Figure]:
    for count in (1_000, 4_000, 16_000, 64_000):
        with _shard() as shard:
            _open(shard, count, lambda number: _equals("data.key", f"k{number}"))
            chosen = range(0, count, count // _SAMPLES)
            found = _us(shard, [_event(number, b'{"key":"k%d"}' % number) for number in chosen])
            missed = _us(shard, [_event(number, b'{"key":"none-%d"}' % number) for number in range(_SAMPLES)])
        yield Figure(f"{count:>6,} waits of as many values: an event ends one", found, "us")
        yield Figure(f"{count:>6,} waits of as many values: an event ends none", missed, "us")


def _paths() -> Iterator[Figure]:
    for count in (1, 2, 4, 8, 16, 32):
        with _shard() as shard:
            _open(shard, count, lambda number: _equals(f"data.k{number}", "a"))
            data = b"{%s}" % b",".join(b'"k%d":"b"' % number for number in range(count))
            taken = _us(shard, [_event(number, data) for number in range(_SAMPLES)])
        yield Figure(f"waits by {count:>2} paths: an event, for each", taken / count, "us")


def _same_value() -> Iterator[Figure]:
    for count in (100, 500, 1_000, 4_000):
        with _shard() as shard:
            _open(shard, count, lambda _number: _equals("data.key", "same"))
            taken = _us(shard, [_event(0, b'{"key":"same"}')])
        yield Figure(f"{count:>6,} waits of one value: an event ends all, for each", taken / count, "us")


def _equal(_number: int) -> Predicate:
    return Predicate(residual="async.data.amount > 1")


def _different(number: int) -> Predicate:
    return Predicate(residual=f"async.data.amount > {number}")


def _conditions() -> Iterator[Figure]:
    for words, predicate_of in (("equal", _equal), ("different", _different)):
        for count in (100, 500, 1_000, 4_000):
            with _shard() as shard:
                _open(shard, count, predicate_of)
                _us(shard, [_event(0, b'{"amount":0}')])
                taken = _us(shard, [_event(number, b'{"amount":0}') for number in range(3)])
            yield Figure(f"{count:>6,} {words} conditions: an event meets none, for each", taken / count, "us")


def curves() -> Iterator[Figure]:
    """Measure the CPU of an event while one thing grows."""
    for measure in (_values, _paths, _same_value, _conditions):
        yield from measure()
