"""The ceiling of one event name on one shard: events of it as fast as the engine takes them."""

import asyncio
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cluster import Watched, fleet_of
from benchmarks.curves import bucket, curves
from benchmarks.functions import Figure
from benchmarks.laptop import Bench, bench
from benchmarks.shard import BareShard
from stepstream import Event
from stepstream.contract.codec import Raw, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.ids import StepRef, shard_of
from stepstream.contract.limits import DAY_MS, HOUR_MS
from stepstream.contract.matching import EventRouted, Predicate, WaitOpened
from stepstream.contract.topics import EVENTS, FUNCTIONS, INBOX
from stepstream.engine.matching.waits import bucket_of
from stepstream.expressions.predicates import index_key
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.ports import NewRecord
from stepstream.runtime.storage.journal import JournalWrite
from stepstream.sdk.event import to_record
from tests.kafka.cluster.broker import running_broker

_NAME = "bench/go"
_EVENTS = 20_000
_BROKER_EVENTS = 10_000
_WAITING_RUNS = 2_000
_PER_WRITE = 500
_SHARDS = 8
_FEW, _MANY = 1_000, 100_000
_NOW_MS = 1_750_000_000_000
# An app without functions of its own, whose only purpose is that events are kept.
_KEEPER = FunctionRegistered("keeper", "keeper", lookback_ms=HOUR_MS)


@dataclass(frozen=True, slots=True)
class Spent:
    """How long a number of events took, and how much CPU (s)."""

    events: int
    seconds: float
    cpu_seconds: float

    def figures(self, name: str) -> list[Figure]:
        """Return the rate, and the CPU of one event."""
        return [
            Figure(name, self.events / self.seconds, "/s"),
            Figure(f"{name}: CPU", self.cpu_seconds / self.events * 1e6, "us"),
        ]


def _event(key: str, name: str = _NAME) -> EventRecord:
    return to_record(Event(name, {"key": key, "amount": 7}))


def _wait(number: int, key: str, lookback_from: int = 0) -> WaitOpened:
    """Return the wait of a run that does not exist: an event ends it, and resumes nothing."""
    predicate = Predicate((("data.key", index_key(key) or ""),))
    expires_at = SystemClock().now_ms() + DAY_MS
    waiter = StepRef(f"{number:026d}", "0" * 40)
    return WaitOpened(waiter, bucket_of(_NAME, predicate), predicate, expires_at, lookback_from)


def _events(name: str, keys: Sequence[str]) -> list[NewRecord]:
    return [NewRecord(EVENTS, -1, b"", encode(_event(key, name))) for key in keys]


def _waits(shards: int, waits: Sequence[WaitOpened]) -> list[NewRecord]:
    return [NewRecord(INBOX, shard_of(_NAME, shards), _NAME.encode(), encode(wait)) for wait in waits]


def _portions(records: Sequence[NewRecord]) -> Iterator[Sequence[NewRecord]]:
    return (records[at : at + _PER_WRITE] for at in range(0, len(records), _PER_WRITE))


class _Laptop:
    """An embedded engine that is given records as its log would have them, without a producer's requests."""

    def __init__(self, made: Bench) -> None:
        self._made = made

    def write(self, records: Sequence[NewRecord]) -> None:
        for portion in _portions(records):
            self._made.journal.write(JournalWrite(list(portion)), self._made.clock.now_ms())

    async def prepare(self, records: Sequence[NewRecord]) -> None:
        self.write(records)
        await self._made.engine.until_idle()

    async def measure(self, name: str, keys: Sequence[str], runs: int = 0) -> Spent:
        """Send events; `runs` end because of them."""
        records = _events(name, keys)
        ended = self._made.ended + runs
        begun, cpu = time.perf_counter(), time.process_time()
        self.write(records)
        await (self._made.until_ended(ended) if runs else self._made.engine.until_idle())
        return Spent(len(keys), time.perf_counter() - begun, time.process_time() - cpu)


@asynccontextmanager
async def _laptop() -> AsyncIterator[_Laptop]:
    async with bench() as made:
        yield _Laptop(made)


async def laptop() -> AsyncIterator[Figure]:
    """Measure each case in a new embedded engine: shard, worker and read model in one process."""
    keys = [f"k{number}" for number in range(_EVENTS)]
    async with _laptop() as engine:
        for figure in (await engine.measure("bench/none", keys)).figures("laptop: no trigger, no wait"):
            yield figure
    for others in (_FEW, _MANY):
        async with _laptop() as engine:
            open_waits = [_wait(number, f"other-{number}") for number in range(others)]
            await engine.prepare(_waits(1, open_waits + [_wait(others + at, key) for at, key in enumerate(keys)]))
            for figure in (await engine.measure(_NAME, keys)).figures(f"laptop: ends one of {others:,} waits"):
                yield figure
            some = [f"run-{key}" for key in keys[:_WAITING_RUNS]]
            await engine.prepare(_events("bench/wait", some))
            resumed = await engine.measure(_NAME, some, len(some))
            for figure in resumed.figures(f"laptop: resumes one of {others:,} waiting runs"):
                yield figure
    async with _laptop() as engine:
        await engine.prepare([NewRecord(FUNCTIONS, 0, b"keeper", encode(_KEEPER)), *_waits(1, [_wait(0, "-", 1)])])
        for figure in (await engine.measure(_NAME, keys)).figures("laptop: kept, one path indexed"):
            yield figure
    async with _laptop() as engine:
        for figure in (await engine.measure("bench/once", keys, len(keys))).figures("laptop: starts a run"):
            yield figure


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class _Broker:
    """An engine process on a real broker. A run for each partition of the events ends after all events before it."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._measured = 0

    async def write(self, records: Sequence[NewRecord]) -> None:
        assert self._watched.producer is not None
        for portion in _portions(records):
            await self._watched.producer.send(list(portion))

    def _engine_cpu(self) -> float:
        process = self._watched.fleet.engines[0].process
        assert process is not None
        return _cpu_seconds(process.pid)

    async def plan(self, keys: Sequence[str]) -> None:
        """Start runs that wait, and return when they do."""
        planned = self._watched.planned + len(keys)
        await self.write(_events("bench/wait", keys))
        await self._watched.until(lambda: self._watched.planned >= planned)

    async def measure(self, name: str, keys: Sequence[str], runs: int = 0) -> Spent:
        """Send events; `runs` end because of them, besides those that show the end of each partition."""
        self._measured += 1
        partitions = range(self._watched.shards)
        last = [f"end-{self._measured}-{partition}" for partition in partitions]
        await self.plan(last)
        ended = self._watched.ended + runs + len(last)
        records = _events(name, keys)
        begun, cpu = time.perf_counter(), self._engine_cpu()
        await self.write(records)
        await self.write([NewRecord(EVENTS, at, b"", encode(_event(last[at]))) for at in partitions])
        await self._watched.until_ended(ended)
        return Spent(len(keys), time.perf_counter() - begun, self._engine_cpu() - cpu)


async def _on_broker(bootstrap: str, count: int) -> AsyncIterator[Figure]:
    keys = [f"k{number}" for number in range(_BROKER_EVENTS)]
    words = f"broker, {count} shard{'s' * (count > 1)}"
    async with fleet_of(bootstrap, f"hot{count}", 1, 1, count) as watched:
        engine = _Broker(watched)
        for figure in (await engine.measure("bench/none", keys)).figures(f"{words}: no trigger, no wait"):
            yield figure
        before = 0
        for others in (_FEW, _MANY):
            open_waits = [_wait(number, f"other-{number}") for number in range(before, others)]
            ended = [_wait(_MANY + at, key) for at, key in enumerate(keys)]
            await engine.write(_waits(count, open_waits + ended))
            before = others
            await engine.measure(_NAME, [])  # The waits are in their buckets afterwards.
            for figure in (await engine.measure(_NAME, keys)).figures(f"{words}: ends one of {others:,} waits"):
                yield figure
            some = [f"run-{others}-{number}" for number in range(_WAITING_RUNS)]
            await engine.plan(some)
            resumed = await engine.measure(_NAME, some, len(some))
            for figure in resumed.figures(f"{words}: resumes one of {others:,} waiting runs"):
                yield figure
        started = await engine.measure("bench/once", keys, len(keys))
        for figure in started.figures(f"{words}: starts a run"):
            yield figure
        await engine.write([NewRecord(FUNCTIONS, 0, b"keeper", encode(_KEEPER)), *_waits(count, [_wait(0, "-", 1)])])
        for figure in (await engine.measure(_NAME, keys)).figures(f"{words}: kept, one path indexed"):
            yield figure


async def broker(bootstrap: str) -> AsyncIterator[Figure]:
    """Measure each case with one engine process that has the only shard."""
    async for figure in _on_broker(bootstrap, 1):
        yield figure


async def shards(bootstrap: str) -> AsyncIterator[Figure]:
    """Measure each case with one engine process that has four shards: events, waits and runs pass between them."""
    async for figure in _on_broker(bootstrap, 4):
        yield figure


def routing() -> Iterator[Figure]:
    """Measure the shard of the name alone, one of several: it reads each event and forwards it to its bucket."""
    shard = shard_of(_NAME, _SHARDS)
    for kept in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            bare = BareShard(Path(folder) / "db", _NOW_MS, shard, _SHARDS)
            if kept:
                bare.apply(_KEEPER)
            bare.apply(_wait(0, "-", _NOW_MS if kept else 0))
            records = [EventRouted(EventRecord(_NAME, Raw(b'{"key":"k%d"}' % at), f"e{at}")) for at in range(_EVENTS)]
            begun = time.thread_time()
            for at in range(0, _EVENTS, 100):
                bare.apply(*records[at : at + 100])
            taken = (time.thread_time() - begun) / _EVENTS * 1e6
            bare.close()
        yield Figure(f"the shard of the name, of 8{', kept' * kept}: CPU", taken, "us")


ALL = (routing, bucket, curves, laptop, broker, shards)


def _collect(figures: AsyncIterator[Figure]) -> Iterator[Figure]:
    """Yield the figures of an asynchronous measurement as they come."""
    with asyncio.Runner() as runner:
        while (figure := runner.run(anext(figures, None))) is not None:
            yield figure


def main(chosen: set[str]) -> Iterator[Figure]:
    """Run the chosen parts of the benchmark, or all."""
    for part in (routing, bucket, curves):
        if not chosen or part.__name__ in chosen:
            yield from part()
    if not chosen or "laptop" in chosen:
        yield from _collect(laptop())
    for measure in (broker, shards):
        if not chosen or measure.__name__ in chosen:
            with running_broker() as bootstrap:
                yield from _collect(measure(bootstrap))
