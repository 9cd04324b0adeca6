"""Inject faults into a real cluster: python -m tests.kafka.chaos.run KILLS=1000 SECONDS=900 SEED=7 FAULTS=wiped."""

import asyncio
import logging
import random
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from stepstream.contract.topics import CHANGELOG
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from tests.kafka.chaos.faults import FAULTS, PYTHON_FAULTS, short_log
from tests.kafka.chaos.judging import is_skipped, judge, judge_evidence
from tests.kafka.chaos.limit_judging import (
    bodies_of,
    interrupted,
    is_limited,
    judge_active,
    judge_limited,
    judge_starts,
    limits_reached,
)
from tests.kafka.chaos.limit_rows import read_limit_rows
from tests.kafka.chaos.load import APP, LIMIT_KINDS, Load
from tests.kafka.chaos.scene import (
    LIMITS_REACHED,
    LIMITS_WITH_A_QUEUE,
    NOTICED,
    POLL_S,
    UP,
    UP_S_MAX,
    Disk,
    Effects,
    Scene,
    until,
)
from tests.kafka.cluster.broker import Broker, Brokers, running
from tests.kafka.cluster.fleet import APPS, Fleet
from tests.kafka.cluster.history import Ledger, until_registered
from tests.kafka.cluster.java import NoBrokerError

NAMESPACE = "chaos"
FUNCTIONS = 2 + len(LIMIT_KINDS)
REPORT_EVERY_S = 5.0
# The next fault waits while more runs are open, so that faults hit work in progress and the run comes to an end.
OPEN_RUNS_MAX = 300
# Runs are stuck when none ends for so long; no step of the app waits longer than a second.
STUCK_S = 180.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What a chaos run does: each of `faults` once, then random ones until `kills` engines were killed.

    `seconds` ends it earlier, if it is not 0. `seed` decides the order of the faults and the members that they hit.
    """

    kills: int
    seed: int = 1
    faults: tuple[str, ...] = PYTHON_FAULTS
    seconds: float = 0
    engines: int = 2
    workers: int = 2
    shards: int = 4
    brokers: int = 1
    events_per_fault: int = 8


@dataclass(slots=True)
class Verdict:
    """The result: violations of guarantees, and figures."""

    broken: list[str]
    figures: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the figures in a line, and the first violations."""
        return "\n".join([", ".join(f"{count} {name}" for name, count in self.figures.items()), *self.broken[:20]])


def faults_of(plan: Plan, draw: random.Random) -> Iterator[str]:
    """Yield the names of faults without end."""
    first = list(plan.faults)
    draw.shuffle(first)
    yield from first
    weights = [FAULTS[name][0] for name in plan.faults]
    while True:
        yield draw.choices(plan.faults, weights)[0]


async def inject(scene: Scene, plan: Plan, report: Callable[[str], None]) -> None:
    """Send events and strike with faults until the plan is done."""
    begun = reported = time.monotonic()
    faults = faults_of(plan, scene.draw)
    while True:
        done = sum(scene.struck.values()) >= len(plan.faults) and killed(scene.fleet, "engine") >= plan.kills
        if done or 0 < plan.seconds < time.monotonic() - begun:
            return
        await scene.load.send(plan.events_per_fault)
        await scene.some_work()
        name = next(faults)
        await FAULTS[name][1].strike(scene)
        scene.struck[name] += 1
        await until_few_are_open(scene)
        if time.monotonic() - reported > REPORT_EVERY_S:
            reported = time.monotonic()
            report(f"{reported - begun:6.0f} s: {progress(scene)}")


def killed(fleet: Fleet, role: str) -> int:
    """Return how many engines or workers were killed."""
    return sum(member.kills for member in (fleet.engines if role == "engine" else fleet.workers))


def progress(scene: Scene) -> str:
    """Return the progress of a run in a line."""
    struck = ", ".join(f"{count} {name}" for name, count in sorted(scene.struck.items()))
    return (
        f"{scene.load.sent} events, {scene.ledger.ended} runs ended, {scene.ledger.open} open, "
        f"{killed(scene.fleet, 'engine')} engines killed; {struck}"
    )


async def until_few_are_open(scene: Scene) -> None:
    """Return when few enough runs are open for the next fault; raise TimeoutError when no run ends."""
    ended = -1
    while scene.ledger.open >= OPEN_RUNS_MAX:
        if scene.ledger.ended == ended:
            raise TimeoutError(f"{scene.ledger.open} runs are open, and none ends")
        ended = scene.ledger.ended
        await until(lambda: scene.ledger.open < OPEN_RUNS_MAX, STUCK_S)


async def until_idle(scene: Scene) -> None:
    """Return when all faults and runs have ended; raise TimeoutError when a run stays open."""
    await asyncio.gather(*scene.lasting)
    # One of each function, and, if there are any, one of a function with a limit.
    expected = (3 if scene.load.limited else 2) * scene.load.sent
    ended, changed_at = -1, time.monotonic()
    while scene.ledger.ended < expected:
        if scene.ledger.ended > ended:
            ended, changed_at = scene.ledger.ended, time.monotonic()
        if time.monotonic() - changed_at > STUCK_S:
            raise TimeoutError(f"{ended} of {expected} runs have ended, and no more do")
        await asyncio.sleep(POLL_S)


async def endure(
    scene: Scene, plan: Plan, report: Callable[[str], None], beside: Sequence[asyncio.Future[None]]
) -> list[str]:
    """Strike until the plan is done and all runs have ended; return why they have not, if they have not.

    A task `beside` it that has failed raises its error.
    """
    try:
        await inject(scene, plan, report)
        report(f"done: {progress(scene)}")
        await until_idle(scene)
    except (TimeoutError, NoBrokerError) as error:
        for task in beside:
            if task.done():
                task.result()
        stuck = scene.ledger.stuck(time.time_ns() // 1_000_000 - 10_000)
        return [str(error), *stuck[:5], scene.fleet.logs()]
    return []


def figures_of(scene: Scene) -> dict[str, int]:
    """Return what was done and observed."""
    aborted = scene.broker.aborted(f"{NAMESPACE}.{CHANGELOG}")
    last = sum(member.said(UP["engine"]) for member in scene.fleet.engines if member not in scene.held)
    return {
        "events": scene.load.sent,
        "runs": len(scene.ledger.runs),
        "engines killed": killed(scene.fleet, "engine"),
        "workers killed": killed(scene.fleet, "worker"),
        "disks wiped": scene.disks[Disk.WIPED],
        "disks rolled back": scene.disks[Disk.STALE],
        **{f"times {name}": count for name, count in sorted(scene.struck.items())},
        "transactions aborted": len(aborted),
        "records of them in the changelog": sum(aborted),
        **{name: scene.noticed[name] for name in NOTICED},
        "assignments of shards": scene.rebalances + last,
        "shards moved to another engine": scene.fleet.moves() - scene.moves_before,
        "runs moved to another worker": scene.ledger.moves(),
        "duplicates refused": scene.load.repeated,
        "records dead-lettered": len(scene.load.poisoned),
        "bodies run": scene.effects.count(),
    }


async def judge_limits(scene: Scene) -> Verdict:
    """Return the violations of limits after all runs have ended, and what was observed of them."""
    runs = {run_id: entries for run_id, entries in scene.ledger.runs.items() if is_limited(entries)}
    lines = scene.fleet.bodies.read_text().splitlines()
    bodies = bodies_of(lines, [life for worker in scene.fleet.workers for life in worker.lives])
    rows = await read_limit_rows(scene.cluster)
    broken = [
        *judge_limited(runs, scene.load.sent),
        *judge_active(bodies),
        *judge_starts(runs, bodies, scene.jumped_ns),
        *rows.judge(),
    ]
    figures = {
        "runs of functions with limits": len(runs),
        "of these skipped": sum(is_skipped(entries) for entries in runs.values()),
        "their bodies": len(bodies),
        "of these interrupted": interrupted(lines),
        LIMITS_REACHED: limits_reached(bodies),
        LIMITS_WITH_A_QUEUE: len(rows.queues),
    }
    return Verdict(broken, figures)


@asynccontextmanager
async def staged(
    broker: Broker | Brokers, fleet: Fleet, plan: Plan, *, limited: bool = False
) -> AsyncIterator[tuple[Scene, Sequence[asyncio.Future[None]]]]:
    """Create the topics, and yield the scene of a fleet and the tasks beside it; at the end kill all processes."""
    cluster = Cluster(KafkaSettings(broker.bootstrap, NAMESPACE))
    fleet.effects.touch()
    load, ledger = Load(cluster, plan.shards, limited), Ledger(cluster)
    scene = Scene(broker, fleet, load, ledger, Effects(fleet.effects), random.Random(plan.seed))
    fleet.command("topics", "apply", "--shards", str(plan.shards), "--replicas", str(plan.brokers), "--app", APP)
    beside = [asyncio.ensure_future(code) for code in (ledger.follow(), scene.tend())]
    try:
        yield scene, beside
    finally:
        for task in (*beside, *scene.lasting):
            task.cancel()
        await asyncio.gather(*beside, *scene.lasting, return_exceptions=True)
        fleet.kill()
        await load.close()
        await ledger.close()


async def act(broker: Broker | Brokers, folder: Path, plan: Plan, report: Callable[[str], None]) -> Verdict:
    """Start a cluster in a folder, execute the plan, and judge."""
    fleet = Fleet(broker.bootstrap, NAMESPACE, folder, APPS / "chaos" / "limited_app.py")
    fleet.bodies.touch()
    async with staged(broker, fleet, plan, limited=True) as (scene, beside):
        for number in range(plan.engines):
            # One has no copies: it only fences the engines that it suspects.
            fleet.add_engine(*(["--standby"] if number else []), module="tests.kafka.chaos.zombie_engine")
        for number in range(plan.workers):
            # All but the first have so few slots that runs are queued when a fault hits the worker.
            options = ("--concurrency", "2") if number else ()
            fleet.add_worker(*options, module="tests.kafka.cluster.shifted_clock", **short_log("worker"))
        await until_registered(scene.cluster, plan.shards, FUNCTIONS)
        await until(lambda: all(engine.said(UP["engine"]) for engine in fleet.engines), UP_S_MAX)
        scene.moves_before = fleet.moves()
        if stuck := await endure(scene, plan, report, beside):
            return Verdict(stuck, figures_of(scene))
        workers_died = killed(fleet, "worker") > 0 or bool(scene.struck.keys() & _MOVES_WORKERS)
        broken = await judge(scene.cluster, scene.load, scene.effects.lines(), workers_died=workers_died)
        limits = await judge_limits(scene)
        figures = {**figures_of(scene), **limits.figures}
        return Verdict([*broken, *limits.broken, *judge_evidence(scene.struck, figures)], figures)


# After these faults a body may have run twice, although no worker was killed.
_MOVES_WORKERS = {
    "frozen-worker",
    "more-workers",
    "rolled-worker",
    "broker-killed",
    "broker-stopped",
    "broker-frozen",
    "commands-recreated",
}


Act = Callable[[Broker | Brokers, Path, Plan, Callable[[str], None]], Coroutine[None, None, Verdict]]


def run(plan: Plan, folder: Path, report: Callable[[str], None], act: Act = act) -> Verdict:
    """Execute a plan with its own broker by `act`; the files of all processes are in `folder`."""
    # Faults make its clients log errors all the time.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    (folder / "broker").mkdir()
    place = folder / "broker"
    brokers = Broker(place) if plan.brokers == 1 else Brokers(place, plan.brokers)
    with running(brokers):
        return asyncio.run(act(brokers, folder, plan, report))


def plan_from(arguments: Sequence[str], allowed: Sequence[str] = PYTHON_FAULTS) -> Plan:
    """Return the plan that NAME=value arguments describe; without FAULTS it has all that are `allowed`."""
    given = dict(argument.split("=", 1) for argument in arguments)
    faults = tuple(given.pop("FAULTS", "").split(",")) if given.get("FAULTS") else tuple(allowed)
    if unknown := [name for name in faults if name not in allowed]:
        raise SystemExit(f"unknown fault {unknown[0]!r}; the faults are {', '.join(allowed)}")
    numbers = {name.lower(): int(value) for name, value in given.items()}
    return Plan(**{"kills": 1_000, "seed": random.randrange(10**6), **numbers}, faults=faults)


def main(plan: Plan, act: Act = act) -> int:
    """Execute a plan, print progress and figures, and return 1 when a guarantee was violated."""
    print(plan, flush=True)
    folder = Path(tempfile.mkdtemp(prefix="stepstream-chaos-"))
    with suppress(KeyboardInterrupt):
        verdict = run(plan, folder, lambda line: print(line, flush=True), act)
        print(verdict)
        if not verdict.broken:
            shutil.rmtree(folder)
            return 0
        print(f"FAILED with SEED={plan.seed}; the logs are in {folder}")
        return 1
    print(f"interrupted; all processes have ended, and their logs are in {folder}")
    return 130


if __name__ == "__main__":
    sys.exit(main(plan_from(sys.argv[1:])))
