"""How long shards do not answer when an engine ends, is suspended or joins, or the broker was away.

`python -m benchmarks failover [killed|killed_alone|stopped|suspended|joined|outage …]` measures all of them, or some.

Requests go to each shard several times a second. The silence of a shard is the longest time without an answer around a
fault. FAULTS in the environment is how often each fault strikes (default: 50). Each silence is printed as it comes, and
the distribution after the last one; if a kind of fault ends early, that of what was measured until then.
"""

import asyncio
import logging
import os
import time
import traceback
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from benchmarks import functions
from benchmarks.functions import Figure
from stepstream import Event
from stepstream.contract.codec import encode
from stepstream.contract.errors import StepstreamError
from stepstream.contract.history import RunEnded, decode_history
from stepstream.contract.ids import run_routing, shard_of
from stepstream.contract.topics import EVENTS
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.kafka.backbone import KafkaBackbone
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.replies import KafkaCallers
from stepstream.runtime.ports import LogError, NewRecord
from stepstream.sdk.event import to_record
from tests.kafka.chaos.zombie_app import SUSPENDED
from tests.kafka.cluster.broker import Broker, running, running_broker
from tests.kafka.cluster.fleet import Fleet, Member
from tests.kafka.cluster.observed import Observed

_SHARDS = 4
_REQUEST_S = 0.05
_POLL_S = 0.05
_WAIT_S_MAX = 180.0
# Between a fault and the next one, every shard answers for this long.
_CALM_S = 2.0
# Less than the session, so that the group does not decide.
_SUSPENDED_S = 6.0
_OUTAGE_S = 30.0
_ZOMBIE = "tests.kafka.chaos.zombie_engine"


class Shards:
    """Sends requests to all shards, and notes when each has answered, and when its runs have ended."""

    def __init__(self, cluster: Cluster, fleet: Fleet) -> None:
        self.cluster = cluster
        self.fleet = fleet
        self.observed = Observed(fleet)
        self.answers: dict[int, list[float]] = {shard: [] for shard in range(_SHARDS)}
        self.ends: dict[int, list[float]] = {shard: [] for shard in range(_SHARDS)}
        self._backbone = KafkaBackbone(cluster, SystemClock(), _SHARDS)
        self._callers = KafkaCallers(cluster, self._backbone, _SHARDS)
        names = {shard_of(run_routing(name), _SHARDS): name for name in (f"{at:026}" for at in range(100))}
        self._names = [names[shard] for shard in range(_SHARDS)]
        self._tasks: set[asyncio.Task[Any]] = set()

    def begin(self, *parts: Coroutine[Any, Any, Any]) -> None:
        """Run these until the end."""
        for part in parts:
            task = asyncio.ensure_future(part)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def request(self) -> None:
        """Send requests without end."""
        while True:
            self.begin(*(self._request(shard) for shard in range(_SHARDS)))
            await asyncio.sleep(_REQUEST_S)

    async def _request(self, shard: int) -> None:
        with suppress(StepstreamError, LogError):
            await self._callers.cancel(self._names[shard])
            self.answers[shard].append(time.monotonic())

    async def start_runs(self) -> None:
        """Start runs without end."""
        while True:
            for _ in range(_SHARDS):
                event = NewRecord(EVENTS, -1, b"", encode(to_record(Event("bench/three"))))
                await self._backbone.append([event])
            await asyncio.sleep(_REQUEST_S)

    async def watch(self) -> None:
        """Note the ends of runs, without end."""
        async for records in self._backbone.history(lambda _: 0):
            for record in records:
                if isinstance(decode_history(record.value), RunEnded):
                    self.ends[record.partition].append(time.monotonic())

    async def serve(self) -> None:
        """Receive answers."""
        self.begin(self._callers.serve())

    def owned(self, engine: Member) -> set[int]:
        """Return the shards that an engine serves."""
        with suppress(httpx.TransportError):
            values = self.observed.scrape(engine).values("stepstream_shard_serving")
            return {int(labels["shard"]) for labels, value in values if value}
        return set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Return when a condition holds; fail if it does not within three minutes."""
        async with asyncio.timeout(_WAIT_S_MAX):
            while not await asyncio.to_thread(holds):  # noqa: ASYNC110 - processes have no event to await
                await asyncio.sleep(_POLL_S)

    async def until_spread(self, engines: int) -> None:
        """Return when each engine serves its part, and each shard has answered for some time."""

        def spread() -> bool:
            owned = [self.owned(engine) for engine in self.fleet.engines if not engine.ended]
            return len(owned) == engines and all(owned) and sum(map(len, owned)) == _SHARDS

        await self.until(spread)
        await asyncio.sleep(_CALM_S)

    async def until_answered(self, since: float) -> None:
        """Return when each shard has answered a while after a time."""
        await self.until(lambda: all(at and at[-1] > since + _CALM_S for at in self.answers.values()))

    async def close(self) -> None:
        """Stop all processes."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._backbone.close()
        await asyncio.to_thread(self.fleet.stop)
        self.observed.client.close()


def silence(times: list[float], since: float) -> float:
    """Return the longest time without an answer, from the last one before `since` (s)."""
    before = max((at for at in times if at <= since), default=since)
    later = [before, *(at for at in times if at > since)]
    return max((second - first for first, second in pairwise(later)), default=0.0)


@asynccontextmanager
async def _shards(bootstrap: str, name: str, engines: int, module: str, *options: str) -> AsyncIterator[Shards]:
    with TemporaryDirectory(prefix="stepstream-bench-") as folder:
        fleet = Fleet(bootstrap, name, Path(folder), Path(functions.__file__))
        fleet.command("topics", "apply", "--shards", str(_SHARDS), "--app", "bench")
        shards = Shards(Cluster(KafkaSettings(bootstrap, name)), fleet)
        try:
            for _ in range(engines):
                fleet.add_engine(*options, module=module)
            await shards.serve()
            shards.begin(shards.request())
            await shards.until_spread(engines)
            yield shards
        except BaseException as error:
            error.add_note(fleet.logs())
            raise
        finally:
            await shards.close()


@dataclass(slots=True)
class Silences:
    """The silences of one kind that were measured (s), and what some of their percentiles should be."""

    name: str
    aims: dict[str, str]
    found: list[float] = field(default_factory=list)

    def add(self, seconds: float) -> None:
        """Note a silence, and print it."""
        self.found.append(seconds)
        print(f"  {self.name} {len(self.found)}: {seconds:.2f} s", flush=True)

    def figures(self) -> list[Figure]:
        """Return the distribution, empty if nothing was measured."""
        if not self.found:
            return []
        ranked = sorted(self.found)
        # The nearest rank: no percentile is below what as many of the faults have shown.
        figures = {f"p{percent}": ranked[-(-percent * len(ranked) // 100) - 1] for percent in (50, 90, 99)}
        figures["max"] = ranked[-1]
        return [
            Figure(f"{self.name}, {which} of {len(self.found)}", value, "s", self.aims.get(which, ""))
            for which, value in figures.items()
        ]


@dataclass(slots=True)
class Findings:
    """What a kind of fault has shown until now."""

    kinds: list[Silences] = field(default_factory=list)

    def silences(self, name: str, **aims: str) -> Silences:
        """Return where to note the silences of a kind; `aims` are by percentile, such as p99="< 3"."""
        self.kinds.append(Silences(name, aims))
        return self.kinds[-1]


def _count() -> int:
    return int(os.environ.get("FAULTS", "50"))


async def _end(
    bootstrap: str, namespace: str, end: Callable[[Member], None], silences: Silences, *options: str
) -> None:
    """End one of two engines again and again; note the longest silence of a shard each time."""
    async with _shards(bootstrap, namespace, 2, "stepstream", *options) as shards:
        for number in range(_count()):
            engine = shards.fleet.engines[number % 2]
            owned = shards.owned(engine)
            began = time.monotonic()
            await asyncio.to_thread(end, engine)
            await shards.until_answered(began)
            silences.add(max(silence(shards.answers[shard], began) for shard in owned))
            engine.log.write_text("")
            engine.start()
            await shards.until_spread(2)


async def killed(bootstrap: str, findings: Findings) -> None:
    """Kill an engine whose shards another one has copied."""
    silences = findings.silences("killed engine with a standby", p99="< 3")
    await _end(bootstrap, "killed", lambda engine: engine.kill(), silences, "--standby")


async def killed_alone(bootstrap: str, findings: Findings) -> None:
    """Kill an engine without a standby: the session of the group decides."""
    await _end(bootstrap, "alone", lambda engine: engine.kill(), findings.silences("killed engine without a standby"))


async def stopped(bootstrap: str, findings: Findings) -> None:
    """Stop an engine with SIGTERM."""
    silences = findings.silences("SIGTERM with a standby", p99="< 1")
    await _end(bootstrap, "stopped", lambda engine: engine.stop(), silences, "--standby")


async def suspended(bootstrap: str, findings: Findings) -> None:
    """Suspend an engine in a commit; its open transaction delays the bodies of healthy shards."""
    healthy = findings.silences("suspended engine: bodies of healthy shards", max="<= 2")
    own = findings.silences("suspended engine: its shards")
    async with _shards(bootstrap, "suspended", 2, _ZOMBIE, "--standby") as shards:
        shards.fleet.add_worker()
        shards.begin(shards.start_runs(), shards.watch())
        await shards.until(lambda: all(len(ends) > 20 for ends in shards.ends.values()))
        for number in range(_count()):
            engine = shards.fleet.engines[number % 2]
            owned, before = shards.owned(engine), engine.said(SUSPENDED)
            engine.stop_file.touch()
            await shards.until(lambda: engine.said(SUSPENDED) > before)  # noqa: B023 - it is awaited here.
            began = time.monotonic()
            await asyncio.sleep(_SUSPENDED_S)
            healthy.add(max(silence(shards.ends[shard], began) for shard in range(_SHARDS) if shard not in owned))
            engine.stop_file.unlink(missing_ok=True)
            own.add(max(silence(shards.answers[shard], began) for shard in owned))
            # A process that had been suspended before would be suspected later the next time.
            engine.kill()
            engine.log.write_text("")
            engine.start()
            await shards.until_spread(2)


async def joined(bootstrap: str, findings: Findings) -> None:
    """Start a third engine, and stop it again."""
    kept = findings.silences("joining engine: shards that stay", p99="< 0.5")
    moved = findings.silences("joining engine: shards that move")
    async with _shards(bootstrap, "joined", 2, "stepstream", "--standby") as shards:
        for _ in range(_count()):
            began = time.monotonic()
            engine = shards.fleet.add_engine("--standby", STEPSTREAM_INSTANCE="")
            await shards.until_spread(3)
            owned = shards.owned(engine)
            await shards.until_answered(time.monotonic())
            kept.add(max(silence(shards.answers[shard], began) for shard in range(_SHARDS) if shard not in owned))
            moved.add(max(silence(shards.answers[shard], began) for shard in owned))
            await asyncio.to_thread(engine.stop)
            shards.fleet.engines.remove(engine)
            await shards.until_spread(2)


async def outage(_bootstrap: str, findings: Findings) -> None:
    """Kill the broker, which is away for half a minute; the silence counts from when it accepts connections again."""
    silences = findings.silences("broker back after 30 s", p99="< 5")
    with (
        TemporaryDirectory(prefix="stepstream-kafka-") as folder,
        running(Broker(Path(folder))) as broker,
    ):
        async with _shards(broker.bootstrap, "outage", 2, "stepstream", "--standby") as shards:
            for _ in range(_count()):
                await asyncio.to_thread(broker.kill)
                await asyncio.sleep(_OUTAGE_S)
                await asyncio.to_thread(broker.start)
                began = time.monotonic()
                await shards.until_answered(began)
                silences.add(max(next(at for at in times if at > began) - began for times in shards.answers.values()))


Measure = Callable[[str, Findings], Coroutine[Any, Any, None]]
ALL: tuple[Measure, ...] = (killed, killed_alone, stopped, suspended, joined, outage)


def measure_all(measures: Sequence[Measure], bootstrap: str) -> Iterator[Figure]:
    """Yield the figures of each measurement, also of one that fails: its error is printed, and the others follow."""
    failed = list[str]()
    for measure in measures:
        findings = Findings()
        try:
            asyncio.run(measure(bootstrap, findings))
        except Exception:  # noqa: BLE001 - hours of measurements would be lost
            traceback.print_exc()
            failed.append(getattr(measure, "__name__", ""))
        for kind in findings.kinds:
            yield from kind.figures()
    if failed:
        raise SystemExit(f"ended early: {', '.join(failed)}")


def main(expected: set[str]) -> Iterator[Figure]:
    """Measure on the broker of KAFKA_BOOTSTRAP, or on a new one on the same machine."""
    # Clients retry what a new topic refuses, and log it.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    with running_broker() as bootstrap:
        yield from measure_all(
            [each for each in ALL if not expected or getattr(each, "__name__", "") in expected], bootstrap
        )
