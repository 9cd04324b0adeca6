"""The embedded engine under load: one durable process, compared with a bare loop over the same writes."""

import asyncio
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from benchmarks.functions import Figure, app
from stepstream import App, Event
from stepstream.contract.codec import encode
from stepstream.contract.history import HistoryEntry, RunEnded
from stepstream.contract.ids import Bucket, StepRef
from stepstream.contract.inbox import StepReported
from stepstream.contract.limits import BULK_RATE_MAX, DEFAULT_LIMITS
from stepstream.contract.matching import Predicate, WaitOpened
from stepstream.contract.operators.bulk import BulkAction
from stepstream.contract.outcomes import Value
from stepstream.contract.topics import INBOX
from stepstream.runtime.bulk import BulkOptions, select
from stepstream.runtime.bulk import start as start_bulk
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.embedded.log import EmbeddedBackbone
from stepstream.runtime.embedded.process import EmbeddedEngine, EngineOptions
from stepstream.runtime.ports import NewRecord
from stepstream.runtime.readmodel.index import RUNS_FILE, RunIndex
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.runtime.storage.journal import JournalWrite
from stepstream.runtime.storage.rocks import RocksJournal
from stepstream.runtime.storage.syncing import Fsync
from stepstream.sdk.event import to_record


class Bench:
    """An engine on disk that counts the runs that end."""

    def __init__(self, folder: Path, served: Sequence[App], shards: int = 1, fsync: Fsync = Fsync.NEVER) -> None:
        self.ended = 0
        self.last: RunEnded | None = None
        self._changed = asyncio.Event()
        self.journal = RocksJournal(folder / "db", shards, fsync=fsync)
        self.clock = SystemClock()
        self.index = RunIndex(folder / RUNS_FILE, is_synced=fsync is not Fsync.NEVER)
        backbone = EmbeddedBackbone(self.journal, self.clock, shards, self.index.sync)
        self.engine = EmbeddedEngine(served, backbone, self.clock, self.index, EngineOptions(shards, watch=self._watch))

    def _watch(self, entry: HistoryEntry) -> None:
        if isinstance(entry, RunEnded):
            self.ended += 1
            self.last = entry
            self._changed.set()

    async def until_ended(self, count: int) -> None:
        """Return when `count` runs have ended."""
        while self.ended < count:
            self._changed.clear()
            await self._changed.wait()


@asynccontextmanager
async def bench(*served: App, shards: int = 1, fsync: Fsync = Fsync.NEVER) -> AsyncIterator[Bench]:
    """Start an engine with apps, by default the one of the benchmarks, in a temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        made = Bench(Path(folder), served or (app,), shards, fsync)
        await made.engine.start()
        syncing = asyncio.ensure_future(made.journal.syncing.keep_synced())
        await made.engine.until_idle()
        try:
            yield made
        finally:
            await made.engine.stop(drain_s=0)
            syncing.cancel()
            made.journal.close()


async def throughput(runs: int = 6_000) -> list[Figure]:
    """Measure three-step runs per second, from the first event to the end of the last run."""
    return [Figure("three-step runs", await _rate("bench/three", runs), "runs/s", ">= 1,500")]


async def _rate(name: str, runs: int, fsync: Fsync = Fsync.NEVER) -> float:
    """Return how many runs per second end that events of this name start, at most 500 at a time."""
    async with bench(fsync=fsync) as made:
        events = [to_record(Event(name, {"n": number})) for number in range(runs)]
        started = time.perf_counter()
        for start in range(0, runs, 100):
            await made.engine.send(events[start : start + 100])
            await made.until_ended(start - 400)
        await made.until_ended(runs)
        return runs / (time.perf_counter() - started)


async def limits(runs: int = 3_000) -> list[Figure]:
    """Measure runs with a limit by key alternating with runs without one, and runs that a limit of 1 puts in a row."""
    rates: dict[str, list[float]] = {"bench/three": [], "bench/limited": [], "bench/turn": []}
    for _ in range(3):
        for name, found in rates.items():
            found.append(await _rate(name, runs))
    without, by_key, in_turn = (statistics.median(found) for found in rates.values())
    return [
        Figure("three-step runs with a limit by key, against those without", by_key / without, "x", ">= 0.6"),
        Figure("three-step runs with a limit of 1 for all", in_turn, "runs/s"),
    ]


async def idle_latency(samples: int = 300) -> list[Figure]:
    """Measure the duration of one three-step run at a time, from send to end."""
    taken = await _idle(samples)
    return [
        Figure("idle run, median", statistics.median(taken), "ms", "< 5"),
        Figure("idle run, p99", statistics.quantiles(taken, n=100)[98], "ms"),
    ]


async def _idle(samples: int, fsync: Fsync = Fsync.NEVER) -> list[float]:
    taken: list[float] = []
    async with bench(fsync=fsync) as made:
        for number in range(samples):
            started = time.perf_counter()
            await made.engine.send([to_record(Event("bench/three", {"n": number}))])
            await made.until_ended(number + 1)
            taken.append((time.perf_counter() - started) * 1_000)
    return taken


async def long_run() -> list[Figure]:
    """Measure the last 100 of 999 steps relative to the first 100, as the median of five runs."""
    ratios, per_step = await _steps(5)
    return [
        Figure("last 100 of 999 steps against the first 100", statistics.median(ratios), "x", "<= 1.2"),
        Figure("a step in a long run", statistics.median(per_step), "ms"),
    ]


async def _steps(runs: int, fsync: Fsync = Fsync.NEVER) -> tuple[list[float], list[float]]:
    """Return, for each run, the last 100 of 999 steps relative to the first 100, and the duration of a step (ms)."""
    ratios: list[float] = []
    per_step: list[float] = []
    async with bench(fsync=fsync) as made:
        for number in range(runs):
            await made.engine.send([to_record(Event("bench/long", {"n": number}))])
            await made.until_ended(number + 1)
            (newest,) = made.index.list(function="thousand-steps", limit=1)
            shown = made.index.show(newest.run_id)
            output = shown.output if shown else None
            times = [float(at) for at in output if isinstance(at, float)] if isinstance(output, list) else []
            ratios.append((times[-1] - times[-101]) / (times[100] - times[0]))
            per_step.append((times[-1] - times[0]) / (len(times) - 1) * 1_000)
    return ratios, per_step


async def syncs(rounds: int = 5) -> list[Figure]:
    """Measure what it costs that writes reach the disk: each setting of `--fsync` in turn, in five rounds."""
    rates: dict[Fsync, list[float]] = {fsync: [] for fsync in Fsync}
    idle: dict[Fsync, list[float]] = {fsync: [] for fsync in Fsync}
    steps: dict[Fsync, list[float]] = {fsync: [] for fsync in Fsync}
    for _ in range(rounds):
        for fsync in Fsync:
            rates[fsync].append(await _rate("bench/three", 2_000, fsync))
            idle[fsync].append(statistics.median(await _idle(200, fsync)))
            steps[fsync] += (await _steps(1, fsync))[1]
    return [
        figure
        for fsync in Fsync
        for figure in (
            Figure(f"--fsync {fsync}: three-step runs", statistics.median(rates[fsync]), "runs/s"),
            Figure(f"--fsync {fsync}: idle run, median", statistics.median(idle[fsync]), "ms"),
            Figure(f"--fsync {fsync}: a step in a long run", statistics.median(steps[fsync]), "ms"),
        )
    ]


def _other_wait(number: int, expires_at: int) -> WaitOpened:
    bucket = Bucket("bench/go", "data.key", f"sother-{number}")
    return WaitOpened(
        StepRef(f"{number:026d}", "0" * 40), bucket, Predicate(((bucket.path, bucket.value),)), expires_at
    )


async def matched(open_waits: int, samples: int = 2_000) -> float:
    """Return how many waiting runs per second are resumed while `open_waits` others wait too."""
    async with bench() as made:
        far = made.clock.now_ms() + 86_400_000
        for start in range(0, open_waits, 5_000):
            waits = [_other_wait(number, far) for number in range(start, min(start + 5_000, open_waits))]
            records = [NewRecord(INBOX, 0, b"bench/go", encode(wait)) for wait in waits]
            made.journal.write(JournalWrite(records), made.clock.now_ms())
            await made.engine.until_idle()
        for name in ("bench/wait", "bench/go"):
            started = time.perf_counter()
            for start in range(0, samples, 100):
                keys = range(start, start + 100)
                await made.engine.send([to_record(Event(name, {"key": f"k{key}"})) for key in keys])
            if name == "bench/wait":
                await made.engine.until_idle()
            else:
                await made.until_ended(samples)
        return samples / (time.perf_counter() - started)


async def waits() -> list[Figure]:
    """Measure wait-and-match with 1,000 and with 1,000,000 open waits."""
    few, many = await matched(1_000), await matched(1_000_000)
    return [
        Figure("resumed waits, 1,000 open", few, "/s", ">= 3,000"),
        Figure("resumed waits, 1,000,000 open", many, "/s", ">= 3,000"),
        Figure("cost of a match, 1,000,000 against 1,000 open", few / many, "x", "<= 1.5"),
    ]


async def bare_loop(runs: int = 20_000) -> list[Figure]:
    """Measure the upper bound: only the encoding and the writes of three-step runs."""
    report = StepReported("0" * 26, 1, "0" * 40, "one", Value())
    with tempfile.TemporaryDirectory() as folder:
        journal = RocksJournal(Path(folder))
        started = time.perf_counter()
        for start in range(0, runs, 50):
            for _ in range(5):
                records = [NewRecord(INBOX, 0, b"key", encode(report)) for _ in range(50)]
                journal.write(JournalWrite(records), start)
                rows = [(b"r%d" % (start + at), encode(report)) for at in range(50)]
                journal.write(JournalWrite([*records, *records], rows=[*rows, *rows]), start)
        took = time.perf_counter() - started
        journal.close()
    return [Figure("bare loop over the same writes", runs / took, "runs/s")]


async def bulk(runs: int = 10_000) -> list[Figure]:
    """Measure a bulk operation that reruns 10,000 runs at its highest rate."""
    async with bench() as made:
        events = [to_record(Event("bench/once", {"n": number})) for number in range(runs)]
        for start in range(0, runs, 100):
            await made.engine.send(events[start : start + 100])
            await made.until_ended(start - 400)
        await made.until_ended(runs)
        options = BulkOptions(BulkAction.RERUN, Filter.parse("function:return-at-once"), cap=runs, rate=BULK_RATE_MAX)
        began = time.perf_counter()
        queries = made.index.queries
        selection = await select(queries, options)
        selected = time.perf_counter()
        await start_bulk(made.engine.operator.bulk, queries, options, selection.run_ids, DEFAULT_LIMITS)
        started = time.perf_counter()
        await made.until_ended(2 * runs)
        ended = time.perf_counter()
    return [
        Figure("bulk rerun, finding 10,000 runs", selected - began, "s"),
        Figure("bulk rerun, storing their requests", started - selected, "s"),
        Figure("bulk rerun, at most 1,000/s, to the last end", ended - started, "s", ">= 10"),
    ]


ALL: tuple[Callable[[], Coroutine[Any, Any, list[Figure]]], ...] = (
    bare_loop,
    throughput,
    limits,
    idle_latency,
    long_run,
    syncs,
    waits,
    bulk,
)
