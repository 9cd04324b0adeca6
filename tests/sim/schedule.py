"""Schedules: a program under planned faults, run and judged against the same program without any."""

import functools
import hashlib
import logging
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from stepstream.contract.codec import encode
from stepstream.contract.limits import RUNS_ACTIVE_MAX, RUNS_CACHED_MAX
from stepstream.contract.topics import CHANGELOG, DEAD_LETTERS
from stepstream.runtime.storage.journal import MemoryJournal
from tests.sim import loop
from tests.sim.faults import Disk, Fault, Faults, Kind
from tests.sim.invariants import check_history, check_rows, check_same, ends_of, fades, minutes_of, results_of
from tests.sim.programs import PROGRAMS, Program
from tests.sim.random_waits import PREFIX, make_waits
from tests.sim.world import World

FAULTS_MAX = 5
CALLS_AFTER_MAX = 16
PASSES_LATE_MAX = 60


class UnsoundError(Exception):
    """A program breaks an invariant although nothing fails."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a schedule runs in: the program, shards, and how much the worker keeps live and has at work."""

    program: str
    shards: int = 1
    live_cache: bool = True
    runs_cached_max: int = RUNS_CACHED_MAX
    runs_active_max: int = RUNS_ACTIVE_MAX
    reads: bool = False


@dataclass(slots=True)
class Outcome:
    """How a schedule ended: `results` without ids, `broken` invariants, and a digest of all that happened.

    `minutes` say when each step had its result, and `calls` how many of the ports there were up to then.
    """

    results: Counter[str]
    broken: list[str]
    ends: dict[tuple[str, str], int] = field(default_factory=dict)
    digest: str = ""
    minutes: Counter[tuple[str, int]] = field(default_factory=Counter)
    calls: int = 0


def run_schedule(setting: Setting, faults: Faults) -> Outcome:
    """Run a program under faults to its end and check the invariants."""
    logging.disable(logging.CRITICAL)
    faults.reads = setting.reads
    try:
        return loop.run(_run(setting, faults))
    except loop.Stuck as stuck:
        return Outcome(Counter(), [str(stuck)])
    except Exception as error:  # noqa: BLE001 - whatever ends a schedule is what is wrong with it
        return Outcome(Counter(), [f"{type(error).__name__}: {error}"])
    finally:
        logging.disable(logging.NOTSET)


async def _run(setting: Setting, faults: Faults) -> Outcome:
    name = setting.program
    program = make_waits(int(name.removeprefix(PREFIX))) if name.startswith(PREFIX) else PROGRAMS[name]()
    program.is_applied = lambda run_id, step: (run_id, step) in faults.applied
    world = World(
        program.app,
        faults,
        shards=setting.shards,
        live_cache=setting.live_cache,
        cached_max=setting.runs_cached_max,
        active_max=setting.runs_active_max,
        limits=program.limits,
    )
    async with world:
        await program.script(world)
        outcome = Outcome(
            results_of(world.history),
            _broken(world, program, setting),
            ends_of(world.history),
            _digest(world, faults),
            minutes_of(world.history),
            len(faults.names),
        )
        # What is wrong already may be so for ever, and end nothing; one fault at each call in turn is for other laws.
        if not outcome.broken and len(faults.plan) != 1:
            outcome.broken += await _fade(world, setting)
        return outcome


async def _fade(world: World, setting: Setting) -> list[str]:
    """Let time pass if anything is to be forgotten in it; return what is left after all."""
    stores = [world.embedded.store_of(shard) for shard in range(setting.shards)]
    if not fades(stores):
        return []
    await world.advance("2h")
    stores = [world.embedded.store_of(shard) for shard in range(setting.shards)]
    return list(check_rows(stores, faded=True))


def _broken(world: World, program: Program, setting: Setting) -> list[str]:
    journal = world.journal
    assert isinstance(journal, MemoryJournal)
    stores = [world.embedded.store_of(shard) for shard in range(setting.shards)]
    broken = [*world.complaints, *program.repeated, *check_history(world.history), *check_rows(stores)]
    broken += check_same(stores, [_logged(journal, shard) for shard in range(setting.shards)])
    letters = sum(journal.end(DEAD_LETTERS, shard) for shard in range(setting.shards))
    if letters:
        broken.append(f"{letters} dead letters")
    if (ends := ends_of(world.history)) != program.ends:
        broken.append(f"runs ended as {ends} instead of {program.ends}")
    return broken


def _logged(journal: MemoryJournal, shard: int) -> dict[bytes, bytes]:
    rows: dict[bytes, bytes] = {}
    for record in journal.read(CHANGELOG, shard, 0, journal.end(CHANGELOG, shard)):
        if record.value:
            rows[record.key] = record.value
        else:
            rows.pop(record.key, None)
    return rows


def _digest(world: World, faults: Faults) -> str:
    digest = hashlib.sha256("\n".join(faults.names).encode())
    for entry in world.history:
        digest.update(encode(entry))
    return digest.hexdigest()[:16]


@functools.cache
def clean(setting: Setting) -> tuple[Sequence[str], Counter[str]]:
    """Return the calls and the results of a schedule without faults, which must itself be sound."""
    faults = Faults()
    outcome = run_schedule(setting, faults)
    if outcome.broken:
        raise UnsoundError(f"{setting.program} without any fault: {outcome.broken[0]}")
    return faults.names[: outcome.calls], outcome.results


def judge(setting: Setting, faults: Faults) -> list[str]:
    """Run a schedule; return what is wrong with it."""
    _, expected = clean(setting)
    outcome = run_schedule(setting, faults)
    if not outcome.broken and outcome.results != expected:
        return [f"results {dict(outcome.results)} instead of {dict(expected)}"]
    return outcome.broken


def random_schedule(seed: int) -> tuple[Setting, Faults]:
    """Return the setting and the faults of a seed."""
    draw = random.Random(seed)
    setting = Setting(
        draw.choice(sorted(PROGRAMS)),
        draw.choice([1, 1, 3, 5]),
        draw.random() < 0.7,
        draw.choice([1, RUNS_CACHED_MAX]),
        draw.choice([1, RUNS_ACTIVE_MAX]),
        reads=draw.random() < 0.1,
    )
    jitter = draw.randrange(1 << 30) if draw.random() < 0.5 else None
    return setting, Faults(random_plan(draw, clean(setting)[0]), jitter=jitter)


def random_plan(draw: random.Random, names: Sequence[str]) -> dict[int, Fault]:
    """Return faults: any call may fail, reports fail more often, and what a new owner does first may fail too."""
    reports = [number for number, name in enumerate(names) if name == "worker.append"]
    plan: dict[int, Fault] = {}
    for _ in range(draw.randint(1, FAULTS_MAX)):
        number = draw.choice(reports) if draw.random() < 0.3 else draw.randrange(int(len(names) * 1.5))
        plan[number] = _random_fault(draw)
        if draw.random() < 0.4:
            plan[number + draw.randint(1, CALLS_AFTER_MAX)] = _random_fault(draw)
    return plan


def _random_fault(draw: random.Random) -> Fault:
    kind = draw.choice([Kind.BEFORE, Kind.AFTER, Kind.LATE, Kind.LATE, Kind.ZOMBIE, Kind.TWICE, Kind.LEAVE])
    disk = draw.choice([Disk.KEPT, Disk.KEPT, Disk.STALE, Disk.WIPED])
    return Fault(kind, disk, draw.choice([draw.randint(1, 20), draw.randint(1, PASSES_LATE_MAX)]))


def judge_seed(seed: int) -> list[str]:
    """Run the schedule of a seed; return what is wrong with it."""
    try:
        return judge(*random_schedule(seed))
    except UnsoundError as error:
        return [str(error)]
