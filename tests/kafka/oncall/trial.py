"""The on-call trial: faults strike a cluster under load and one without, and what an operator sees is checked."""

import asyncio
import itertools
import logging
import math
import os
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from stepstream.contract.history import HistoryEntry
from stepstream.contract.topics import DEAD_LETTERS
from tests.kafka.chaos.scene import until
from tests.kafka.cluster.broker import Broker
from tests.kafka.cluster.fleet import APPS, Fleet
from tests.kafka.cluster.history import Ledger, read_all, until_registered
from tests.kafka.oncall.alerts import CALM_S, Window, wrong_alerts
from tests.kafka.oncall.faults import APP, FAULTS, MISTAKES, Fault, Hits
from tests.kafka.oncall.judging import judge
from tests.kafka.oncall.recorded import write_recordings
from tests.kafka.oncall.recording import Recording
from tests.kafka.oncall.stage import POLL_S, Stage
from tests.kafka.oncall.traffic import Latency, Traffic, by_minute, percentiles
from tests.kafka.operators.faults import Site

LOADED, IDLE = "oncall", "mistakes"
SHARDS = 4
UP_S_MAX = 90.0
# A process that misses its session notices it after that long.
REPORTED_S_MAX = 30.0
STUCK_S = 120.0
WARM_UP_S = 10.0
# Without any fault; the first orders, whose processes have just started, are among them.
P99_S_MAX = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How long the load lasts, which faults strike, each at least once, and the seed of their order.

    The series of each fault are written to the folder `record`, if there is one.
    """

    minutes: float = 25
    seed: int = 1
    faults: tuple[str, ...] = (*FAULTS, *MISTAKES)
    record: Path | None = None


@dataclass(slots=True)
class Verdict:
    """What was wrong, and what was measured."""

    broken: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Trial:
    """The two clusters, the load of one of them, and what was seen."""

    plan: Plan
    folder: Path
    report: Callable[[str], None]
    draw: random.Random
    client: httpx.AsyncClient
    loaded: Stage = field(init=False)
    idle: Stage = field(init=False)
    traffic: Traffic = field(init=False)
    ledger: Ledger = field(init=False)
    recording: Recording = field(init=False)
    verdict: Verdict = field(default_factory=Verdict)
    windows: list[Window] = field(default_factory=list)
    progress: dict[int, list[float]] = field(default_factory=lambda: {shard: [] for shard in range(SHARDS)})
    _urls: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loaded, self.idle = self._stage(LOADED, SHARDS), self._stage(IDLE, 1)
        self.traffic = Traffic(lambda: self._urls, seed=self.plan.seed)
        self.ledger = Ledger(self.loaded.site.cluster, self._note)
        self.recording = Recording({stage.fleet.namespace: stage.observed for stage in (self.loaded, self.idle)})

    def _stage(self, namespace: str, shards: int) -> Stage:
        """Return a cluster with its own broker, which is not started: an outage of one must not hit the other."""
        folder = self.folder / namespace
        (folder / "broker").mkdir(parents=True)
        broker = Broker(folder / "broker")
        fleet = Fleet(broker.bootstrap, namespace, folder, APPS / "oncall" / "orders_app.py")
        fleet.effects.touch()
        return Stage(broker, Site(fleet, shards, APP), self.draw, self.client)

    def _note(self, shard: int, entry: HistoryEntry) -> None:
        self.progress[shard].append(self.now_s())
        self.traffic.note(entry)

    def now_s(self) -> float:
        """Return the seconds since the start."""
        return time.monotonic() - self.recording.began

    async def start(self) -> None:
        """Start all processes; return when they are ready."""
        stages = [self.loaded, *([self.idle] if self._names(MISTAKES) else [])]
        for stage in stages:
            await asyncio.to_thread(stage.broker.start)
            await asyncio.to_thread(stage.site.apply)
        for _ in range(2):
            self.loaded.add_engine("--standby")
            self.loaded.add_worker()
        if self._names(MISTAKES):
            self.idle.add_engine()
            self.idle.add_worker()
        for stage in stages:
            await until_registered(stage.site.cluster, stage.site.shards)
            seconds, states = await stage.until(lambda states: not any(states.values()), UP_S_MAX)
            if math.isinf(seconds):
                raise TimeoutError(f"not ready after the start: {states}")

    def _names(self, table: Mapping[str, Fault]) -> list[str]:
        return [name for name in table if name in self.plan.faults]

    async def watch(self) -> None:
        """Note the addresses of engines, and processes that end by themselves, without end."""
        reported_s = self.now_s()
        while True:
            self._urls[:] = self.loaded.engine_urls()
            for stage in (self.loaded, self.idle):
                self.verdict.broken += [f"at {self.now_s():.0f} s: {line}" for line in stage.ended()]
            if self.now_s() - reported_s >= 60:
                reported_s = self.now_s()
                figures = [
                    f"{self.traffic.ended} of {self.traffic.orders} orders ended",
                    f"due in this minute: {percentiles(self.between(reported_s - 60, reported_s))}",
                    f"answers {dict(self.traffic.answers)}",
                    f"load average {os.getloadavg()[0]:.1f}",
                ]
                self.report(f"{reported_s:5.0f} s: {'; '.join(figures)}")
            await asyncio.sleep(POLL_S)

    def between(self, began_s: float, ended_s: float) -> list[Latency]:
        """Return the orders that were due in a time."""
        start = self.recording.began
        return [each for each in self.traffic.latencies if began_s <= each.due - start < ended_s]

    async def rounds(self) -> None:
        """Strike the loaded cluster with each fault, and again until the time has passed."""
        await asyncio.sleep(WARM_UP_S)
        names = self._names(FAULTS)
        for number in itertools.count():
            self.draw.shuffle(names)
            for name in names:
                if number and self.now_s() > 60 * self.plan.minutes:
                    return
                if not number or FAULTS[name].again:
                    await self.strike(self.loaded, name, FAULTS[name])
            if not names or self.now_s() > 60 * self.plan.minutes:
                return

    async def mistakes(self) -> None:
        """Strike the idle cluster with each mistake; orders sent meanwhile complete, and a new one after each."""
        for name in self._names(MISTAKES):
            await self.idle.complete(UP_S_MAX)
            await self.strike(self.idle, name, MISTAKES[name])
            seconds = await self.idle.complete(UP_S_MAX)
            self.report(f"{self.now_s():5.0f} s: {name}: a new order completed after {seconds:.1f} s")
            if math.isinf(seconds):
                self.verdict.broken.append(f"{name}: no new order completes afterwards\n{self.idle.fleet.logs()}")
            self.verdict.broken += [f"{name}: {line}" for line in await self.idle.wrong_orders(UP_S_MAX)]

    async def strike(self, stage: Stage, name: str, fault: Fault) -> None:
        """Strike with a fault, check what is seen of it until its remedy, and that all processes recover."""
        said = sum(member.said(fault.logged) for member in stage.members)
        began_s = self.now_s()
        hits = await fault.strike(stage)
        if stage is self.idle and not fault.loses:
            await stage.produce()

        def unseen(states: Mapping[str, str]) -> str:
            """Return what an operator does not see of the fault, empty if all is as the table says."""
            logged = sum(member.said(fault.logged) for member in stage.members)
            silent = [f"nothing is logged with {fault.logged!r}"] if fault.logged and logged <= said else []
            return "; ".join([*wrong_states(fault, hits, states), *silent])

        seen_s, states = await stage.until(lambda states: not unseen(states), REPORTED_S_MAX)
        if math.isinf(seen_s):
            self._fail(name, unseen(states))
        lasts_s = fault.seconds - (self.now_s() - began_s)
        wrong_s, states = await stage.until(lambda states: bool(wrong_states(fault, hits, states)), lasts_s)
        if not math.isinf(wrong_s):
            self._fail(name, f"before its end {'; '.join(wrong_states(fault, hits, states))}")
            await asyncio.sleep(max(lasts_s - wrong_s, 0))
        await fault.remedy(stage, hits)
        ready_s, states = await stage.until(lambda states: not any(states.values()), fault.recovered_s)
        if math.isinf(ready_s):
            self._fail(name, f"not all processes are ready {fault.recovered_s:.0f} s after its end: {states}")
        stage.held.clear()
        window = Window(name, stage.fleet.namespace, fault, began_s, self.now_s())
        self.windows.append(window)
        await asyncio.sleep(CALM_S)
        line = f"{began_s:5.0f} s: {name}: reported after {seen_s:.1f} s, all ready {ready_s:.1f} s after its end"
        if stage is self.loaded:
            silent = [self.silence(shard, began_s, window.ended_s + CALM_S) for shard in range(SHARDS)]
            line += "; silence of the shards " + ", ".join(f"{each:.1f}" for each in silent) + " s"
            line += f"; {percentiles(self.between(began_s, window.ended_s))}"
            if max(silent) > fault.silent_s:
                self._fail(name, f"a shard makes no progress for {max(silent):.1f} s, more than {fault.silent_s:.0f} s")
        self.report(line)
        self.verdict.lines.append(line)

    def _fail(self, name: str, what: str) -> None:
        line = f"{name}: {what}"
        self.report(f"{self.now_s():5.0f} s: FAILED {line}")
        self.verdict.broken.append(line)

    def silence(self, shard: int, began_s: float, ended_s: float) -> float:
        """Return the longest time in a window in which a shard wrote nothing to history (s)."""
        inside = [at_s for at_s in self.progress[shard] if began_s <= at_s <= ended_s]
        return max(later - earlier for earlier, later in itertools.pairwise([began_s, *inside, ended_s]))

    async def finish(self) -> None:
        """Wait until all orders have ended, and judge."""
        before = -1
        while self.traffic.ended not in (before, self.traffic.orders):
            before = self.traffic.ended
            await until(lambda: self.traffic.ended == self.traffic.orders, STUCK_S)
        if left := self.traffic.orders - self.traffic.ended:
            stuck = self.ledger.stuck(time.time_ns() // 1_000_000 - 10_000)
            self.verdict.broken += [f"{left} orders do not end", *stuck[:5]]
        effects = self.loaded.fleet.effects.read_text().splitlines()
        self.verdict.broken += judge(self.ledger.runs, self.traffic, effects, workers_died=self.loaded.workers_died)
        found = len(await read_all(self.loaded.site.cluster, DEAD_LETTERS))
        expected = sum(each.name == "hostile-batch" for each in self.windows)
        if found != expected:
            self.verdict.broken.append(f"there are {found} dead letters instead of {expected}")
        self.verdict.lines += self.figures()
        p99_s = self.slowest() if not self.plan.faults else 0.0
        if p99_s > P99_S_MAX:
            self.verdict.broken.append(f"without any fault one order in a hundred takes {p99_s:.2f} s or longer")
        if self.plan.record:
            write_recordings(self.plan.record, self.windows, self.recording.database)
        fired = self.recording.firings()
        self.verdict.lines += [f"fired: {each}" for each in fired]
        self.verdict.broken += wrong_alerts(self.windows, fired)

    def slowest(self) -> float:
        """Return the 99th percentile of the time that orders take (s)."""
        ordered = sorted(each.seconds for each in self.traffic.latencies)
        return ordered[len(ordered) * 99 // 100] if ordered else math.inf

    def figures(self) -> list[str]:
        """Return the latencies by minute, and in windows of faults and outside."""
        start = self.recording.began
        windows = [each for each in self.windows if each.namespace == LOADED]
        hit = [
            each
            for each in self.traffic.latencies
            if any(window.began_s <= each.due - start < window.ended_s + 5 for window in windows)
        ]
        calm = set(self.traffic.latencies) - set(hit)
        return [
            *by_minute(self.traffic.latencies, start),
            f"all:           {percentiles(self.traffic.latencies)}",
            f"without fault: {percentiles(list(calm))}",
            f"during faults: {percentiles(hit)}",
            f"looked back:   {percentiles([each for each in calm if each.looked_back])} without fault",
            f"waited:        {percentiles([each for each in calm if not each.looked_back])} without fault",
        ]


def wrong_states(fault: Fault, hits: Hits, states: Mapping[str, str]) -> list[str]:
    """Return how the probes of processes differ from what the table says of a fault."""
    names = {member.name for member in hits}
    expected = {name: fault.hit if name in names else fault.others for name in states}
    return [
        f"{name} says {state or 'ready'!r} instead of {expected[name] or 'ready'!r}"
        for name, state in states.items()
        if (expected[name] not in state or (state and not expected[name])) and not (fault.over and _takes_over(state))
    ]


def _takes_over(state: str) -> bool:
    words = ("is starting", "recovers", "is copied first")
    return bool(state) and all(any(word in shard for word in words) for shard in state.split("; "))


@asynccontextmanager
async def _trial(folder: Path, plan: Plan, report: Callable[[str], None]) -> AsyncIterator[Trial]:
    async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
        trial = Trial(plan, folder, report, random.Random(plan.seed), client)
        try:
            yield trial
        finally:
            await trial.ledger.close()
            for stage in (trial.loaded, trial.idle):
                stage.fleet.kill()
                stage.broker.end()
                stage.observed.client.close()


async def act(folder: Path, plan: Plan, report: Callable[[str], None]) -> Verdict:
    """Start the clusters in a folder, execute the plan, and judge."""
    async with _trial(folder, plan, report) as trial:
        await trial.start()
        stop = asyncio.Event()
        sending = asyncio.ensure_future(trial.traffic.send(stop))
        beside = [
            sending,
            *(asyncio.ensure_future(code) for code in (trial.ledger.follow(), trial.recording.record(), trial.watch())),
        ]
        try:
            await asyncio.gather(trial.rounds(), trial.mistakes())
            await asyncio.sleep(max(60 * plan.minutes - trial.now_s(), 0))
            stop.set()
            await sending
            await trial.finish()
        finally:
            for task in beside:
                task.cancel()
            for result in await asyncio.gather(*beside, return_exceptions=True):
                if isinstance(result, Exception):
                    trial.verdict.broken.append(f"the trial itself failed: {result!r}")
        return trial.verdict


def run(plan: Plan, folder: Path, report: Callable[[str], None]) -> Verdict:
    """Execute a plan with its own brokers; the files of all processes are in `folder`."""
    # Faults make its clients log errors all the time.
    for name in ("aiokafka", "httpx"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    return asyncio.run(act(folder, plan, report))
