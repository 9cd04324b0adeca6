"""Engines and workers as processes on a real broker, compared with a bare loop of transactions over the same bytes."""

import asyncio
import re
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from benchmarks import functions
from benchmarks.functions import Figure
from stepstream import Event
from stepstream.contract.codec import encode
from stepstream.contract.history import RunEnded, StepPlanned, decode_history
from stepstream.contract.ids import Bucket, StepRef, shard_of
from stepstream.contract.inbox import StepReported
from stepstream.contract.limits import DAY_MS
from stepstream.contract.matching import Predicate, WaitPlaced
from stepstream.contract.outcomes import Value
from stepstream.contract.topics import CHANGELOG, EVENTS, HISTORY, INBOX
from stepstream.expressions.predicates import index_key
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.producer import Producer
from stepstream.runtime.kafka.client.reader import Reader
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.shards.shard_log import KafkaLog
from stepstream.runtime.ports import LogRecord, NewRecord
from stepstream.runtime.storage.rocks_store import RocksStore
from stepstream.sdk.event import to_record
from tests.kafka.cluster.broker import running_broker
from tests.kafka.cluster.fleet import Fleet, Member

_READ_MS = 1_000
_BEHIND_MAX = 400
# A broker that has just started interprets much of its code: idle runs take twice as long there as later.
_WARM_UP = 1_000


class Watched:
    """A fleet of processes: sends events, and counts the runs that end in history."""

    def __init__(self, cluster: Cluster, fleet: Fleet, shards: int) -> None:
        self.cluster = cluster
        self.fleet = fleet
        self.shards = shards
        self.ended = self.planned = 0
        self.last: RunEnded | None = None
        self._changed = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self.producer: Producer | None = None

    async def start(self, engines: int, workers: int) -> None:
        """Start the processes and wait until they have run one function."""
        self.fleet.command("topics", "apply", "--shards", str(self.shards), "--app", "bench")
        for _ in range(engines):
            self.fleet.add_engine()
        for _ in range(workers):
            self.fleet.add_worker()
        self.producer = await self.cluster.producer()
        reader = await self.cluster.reader()
        partitions = [(HISTORY, partition) for partition in range(self.shards)]
        reader.assign(partitions)
        reader.seek(dict.fromkeys(partitions, 0))
        self._watching = asyncio.ensure_future(self._watch(reader))
        while not self.ended:
            await self.send([Event("bench/three")])
            await self._wait(1.0)
        await self._settle()

    async def _settle(self) -> None:
        """Wait until no run has ended for five seconds: every process has joined."""
        idle_since = time.monotonic()
        ended = self.ended
        while time.monotonic() - idle_since < 5:
            await self._wait(1.0)
            if self.ended != ended:
                ended, idle_since = self.ended, time.monotonic()

    async def _wait(self, seconds: float) -> None:
        self._changed.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            pass

    async def _watch(self, reader: Reader) -> None:
        try:
            while True:
                for record in await reader.read(5_000, _READ_MS):
                    entry = decode_history(record.value)
                    if isinstance(entry, RunEnded):
                        self.ended += 1
                        self.last = entry
                    self.planned += isinstance(entry, StepPlanned)
                self._changed.set()
        finally:
            await reader.close()

    async def send(self, events: list[Event]) -> None:
        """Produce events as any program would; return when they are acknowledged."""
        assert self.producer is not None
        await self.producer.send([NewRecord(EVENTS, -1, b"", encode(to_record(event))) for event in events])

    async def until_ended(self, count: int) -> None:
        """Return when `count` runs have ended since the start."""
        await self.until(lambda: self.ended >= count)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return when a condition holds; it is checked after each batch of history."""
        while not holds():
            await self._wait(30)

    async def stop(self) -> None:
        """Stop all processes."""
        if self._watching:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        if self.producer:
            await self.producer.close()
        self.fleet.stop()


@contextmanager
def _folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="stepstream-bench-") as folder:
        yield Path(folder)


@asynccontextmanager
async def fleet_of(bootstrap: str, name: str, engines: int, workers: int, shards: int) -> AsyncIterator[Watched]:
    """Start engines and workers in a new namespace."""
    with _folder() as folder:
        made = Fleet(bootstrap, name, folder, Path(functions.__file__))
        watched = Watched(Cluster(KafkaSettings(bootstrap, name)), made, shards)
        try:
            await watched.start(engines, workers)
            yield watched
        finally:
            await watched.stop()


async def _runs_per_second(watched: Watched, runs: int) -> float:
    already = watched.ended
    started = time.perf_counter()
    for start in range(0, runs, 100):
        await watched.send([Event("bench/three", {"n": number}) for number in range(start, start + 100)])
        await watched.until_ended(already + start - _BEHIND_MAX)
    await watched.until_ended(already + runs)
    return runs / (time.perf_counter() - started)


async def _idle(watched: Watched, runs: int) -> list[float]:
    """Return the durations of runs on an otherwise idle cluster (ms)."""
    taken: list[float] = []
    for _ in range(runs):
        already = watched.ended
        started = time.perf_counter()
        await watched.send([Event("bench/three")])
        await watched.until_ended(already + 1)
        taken.append((time.perf_counter() - started) * 1_000)
    return taken


async def one_engine(bootstrap: str) -> list[Figure]:
    """Measure idle latency, throughput, a long run and matching with one engine and one worker process."""
    async with fleet_of(bootstrap, "one", 1, 1, shards=1) as watched:
        rate = await _runs_per_second(watched, 6_000)
        await _idle(watched, _WARM_UP)
        idle = await _idle(watched, 500)
        already = watched.ended
        await watched.send([Event("bench/long")])
        await watched.until_ended(already + 1)
        output = watched.last.output if watched.last else b"[]"
        times = [float(at) for at in bytes(output).decode().strip("[]").split(",")]
        few = await _matched(watched, 1_000)
        many = await _matched(watched, 100_000)
        recovered = await asyncio.to_thread(_recovered, watched.fleet.engines[0])
    return [
        Figure("idle three-step run, median", statistics.median(idle), "ms", "<= 15"),
        Figure("idle three-step run, p99", statistics.quantiles(idle, n=100)[98], "ms", "<= 40"),
        Figure("three-step runs, one engine, one worker", rate, "runs/s", ">= 700"),
        Figure("a step after a step in one run", (times[-1] - times[0]) / (len(times) - 1) * 1_000, "ms", "<= 2"),
        Figure("resumed waits, 1,000 open", few, "/s", ">= 1,500"),
        Figure("resumed waits, 100,000 open", many, "/s", ">= 1,500"),
        Figure("recovery of this engine on an empty disk", recovered, "rows/s", ">= 20,000"),
    ]


def _recovered(engine: Member) -> float:
    """Kill an engine, remove its disk, and return how many rows of its changelog per second it reads after a restart.

    The engine logs the time, from its first request, which fences the old owner, to the moment when it serves.
    """
    engine.kill()
    engine.wipe()
    engine.start()
    while not engine.said("recovered"):
        time.sleep(0.1)
    found = re.findall(r"recovered ([0-9,]+) rows in ([0-9.]+) s", engine.log.read_text())
    rows, seconds = found[-1]
    return int(rows.replace(",", "")) / float(seconds)


async def _matched(watched: Watched, others: int, samples: int = 2_000) -> float:
    """Return how many waiting runs per second are resumed while `others` wait too."""
    assert watched.producer is not None
    far = SystemClock().now_ms() + DAY_MS
    for start in range(0, others, 5_000):
        records = []
        for number in range(start, min(start + 5_000, others)):
            value = index_key(f"other-{others}-{number}") or ""
            bucket = Bucket("bench/go", "data.key", value)
            predicate = Predicate(((bucket.path, bucket.value),))
            wait = WaitPlaced(StepRef(f"{number:026d}", "0" * 40), bucket, predicate, far)
            home = shard_of(bucket.routing_key, watched.shards)
            records.append(NewRecord(INBOX, home, b"bench/go", encode(wait)))
        await watched.producer.send(records)
    already = watched.ended
    keys = [f"{others}-{number}" for number in range(samples)]
    planned = watched.planned
    await watched.send([Event("bench/wait", {"key": key}) for key in keys])
    await watched.until(lambda: watched.planned == planned + samples)
    started = time.perf_counter()
    for start in range(0, samples, 100):
        await watched.send([Event("bench/go", {"key": key}) for key in keys[start : start + 100]])
    await watched.until_ended(already + samples)
    return samples / (time.perf_counter() - started)


async def two_engines(bootstrap: str) -> list[Figure]:
    """Measure one engine against two, on four shards with two workers."""
    async with fleet_of(bootstrap, "single", 1, 2, shards=4) as watched:
        single = await _runs_per_second(watched, 4_000)
    async with fleet_of(bootstrap, "double", 2, 2, shards=4) as watched:
        double = await _runs_per_second(watched, 4_000)
    return [
        Figure("three-step runs, 4 shards, one engine", single, "runs/s"),
        Figure("three-step runs, 4 shards, two engines", double, "runs/s"),
        Figure("two engines against one", double / single, "x"),
    ]


async def recovery(bootstrap: str, rows: int = 200_000) -> list[Figure]:
    """Measure the recovery of empty tables from a changelog."""
    cluster = Cluster(KafkaSettings(bootstrap, "recovery"))
    await cluster.create({CHANGELOG: (1, {"cleanup.policy": "compact"})}, 1)
    value = encode(StepReported("0" * 26, 1, "0" * 40, "one", Value()))
    producer = await cluster.producer()
    for start in range(0, rows, 10_000):
        await producer.send([NewRecord(CHANGELOG, 0, b"m%024d" % at, value) for at in range(start, start + 10_000)])
    await producer.close()
    with _folder() as folder:
        clock = SystemClock()
        store = RocksStore(folder, clock.now_ms, DAY_MS)
        store.open()
        started = time.perf_counter()
        found = 0
        async for batch, position in KafkaLog(cluster, clock, 0, 1).changelog(0):
            store.write(batch, position)
            found += len(batch)
        took = time.perf_counter() - started
        store.close()
    assert found == rows
    return [Figure("recovery of a shard", rows / took, "rows/s", ">= 20,000")]


async def bare(bootstrap: str, runs: int = 6_000) -> list[Figure]:
    """Measure the upper bound: one process that only moves the bytes of three-step runs, many in a transaction.

    A run has 5 records in (an event, three reports, an end) and about 18 out (a command, history, changelog).
    """
    cluster = Cluster(KafkaSettings(bootstrap, "bare"))
    await cluster.create({"in": (1, {}), "out": (1, {})}, 1)
    value = encode(StepReported("0" * 26, 1, "0" * 40, "one", Value()))
    outside, inside = await cluster.producer(), await cluster.producer("bare")
    reader, ends = await cluster.reader(), await cluster.reader()
    for each, topic in ((reader, "in"), (ends, "out")):
        each.assign([(topic, 0)])
        each.seek({(topic, 0): 0})

    async def forward(count: int) -> None:
        while count > 0:
            records = await reader.read(500, _READ_MS)
            count -= len(records)
            await inside.begin()
            position = NewRecord("out", 0, b"position", b"%d" % records[-1].offset)
            await inside.send(
                [NewRecord("out", 0, b"k" * 26, value) for _ in range(len(records) * 18 // 5)] + [position]
            )
            await inside.commit()

    async def feed() -> None:
        for _ in range(0, 5 * runs, 500):
            await outside.send([NewRecord("in", 0, b"k" * 26, value) for _ in range(500)])

    try:
        idle = await _bare_idle(outside, inside, reader, ends, value)
        started = time.perf_counter()
        await asyncio.gather(feed(), forward(5 * runs))
        rate = runs / (time.perf_counter() - started)
    finally:
        for client in (outside, inside, reader, ends):
            await client.close()
    return [
        Figure("bare loop: the same bytes, one process", rate, "runs/s"),
        Figure("bare loop: write, transaction, read, median", idle, "ms"),
    ]


async def _bare_idle(outside: Producer, inside: Producer, reader: Reader, ends: Reader, value: bytes) -> float:
    taken: list[float] = []
    for _ in range(_WARM_UP + 500):
        started = time.perf_counter()
        await outside.send([NewRecord("in", 0, b"k", value)])
        records: list[LogRecord] = []
        while not records:
            records = await reader.read(1, _READ_MS)
        await inside.begin()
        position = NewRecord("out", 0, b"position", b"%d" % records[-1].offset)
        await inside.send([NewRecord("out", 0, b"k", value), position])
        await inside.commit()
        while not await ends.read(1, _READ_MS):
            pass
        taken.append((time.perf_counter() - started) * 1_000)
    return statistics.median(taken[_WARM_UP:])


ALL: tuple[Callable[[str], Coroutine[Any, Any, list[Figure]]], ...] = (bare, one_engine, two_engines, recovery)


def main(expected: set[str]) -> Iterator[Figure]:
    """Measure on the broker of KAFKA_BOOTSTRAP, or on a new one on the same machine."""
    with running_broker() as bootstrap:
        for measure in ALL:
            if not expected or getattr(measure, "__name__", "") in expected:
                yield from asyncio.run(measure(bootstrap))
