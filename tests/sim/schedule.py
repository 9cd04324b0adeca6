"""Schedules: a program runs under planned faults, and its outcome is compared with a run without any."""

import asyncio
import functools
import hashlib
import logging
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from unittest import mock
from uuid import UUID

from stepstream.contract.codec import NULL, encode, load_json
from stepstream.contract.limits import RUNS_ACTIVE_MAX, RUNS_CACHED_MAX
from stepstream.contract.topics import CHANGELOG, DEAD_LETTERS
from stepstream.runtime import callers
from stepstream.runtime.storage.journal import MemoryJournal
from tests.sim import loop
from tests.sim.faults import Disk, Fault, Faults, Kind, Rebalances
from tests.sim.invariants import (
    check_batches,
    check_grants,
    check_held,
    check_history,
    check_passed,
    check_rows,
    check_same,
    ends_of,
    has_bulk_operations,
    has_expiring_rows,
    minutes_of,
    results_of,
)
from tests.sim.program import Program
from tests.sim.programs import ALL_PROGRAMS, GROUP_PROGRAMS, PROGRAMS
from tests.sim.random_waits import PREFIX, make_waits
from tests.sim.rebalances import GroupWorld
from tests.sim.world import Setting, World

FAULTS_MAX = 5
CALLS_AFTER_MAX = 16
PASSES_LATE_MAX = 60
_REBALANCE_FREQUENCIES = (0.02, 0.1, 0.3)
_BODY_PASSES = (8, 40, 120)
_OPERATED: tuple[str, ...] = (
    "sequence",
    "parallel",
    "conversation",
    "lookbacks",
    "family",
    "cancelled",
    "clockwork",
    "pools",
    "gates",
)
_OPERATED += ("reruns", "branches", *3 * ("retries",))


class UnsoundError(Exception):
    """A program breaks an invariant although no call fails."""


@dataclass(slots=True)
class Outcome:
    """How a schedule ended: `results` without ids, `broken` invariants, and a digest of the calls and the history.

    `minutes` says when each step got its result, and `calls` counts the calls of ports until the script ended.
    """

    results: Counter[str]
    broken: list[str]
    ends: dict[tuple[str, str], int] = field(default_factory=dict)
    digest: str = ""
    minutes: Counter[tuple[str, int]] = field(default_factory=Counter)
    calls: int = 0


def run_schedule(setting: Setting, faults: Faults) -> Outcome:
    """Run a program under faults until its script ends, and check the invariants."""
    logging.disable(logging.CRITICAL)
    faults.reads = setting.reads
    draw = random.Random("ids of requests")
    try:
        with mock.patch.object(callers, "uuid4", side_effect=lambda: UUID(int=draw.getrandbits(128))):
            return loop.run(_run(setting, faults))
    except loop.Stuck as stuck:
        return Outcome(Counter(), [str(stuck)])
    except Exception as error:  # noqa: BLE001 - an error that ends a schedule is a finding
        return Outcome(Counter(), [f"{type(error).__name__}: {error}"])
    finally:
        logging.disable(logging.NOTSET)


async def _run(setting: Setting, faults: Faults) -> Outcome:
    name = setting.program
    program = make_waits(int(name.removeprefix(PREFIX))) if name.startswith(PREFIX) else ALL_PROGRAMS[name]()
    program.is_applied = lambda run_id, step: (run_id, step) in faults.applied
    # A worker that was expelled from its group may start a body with what it has.
    if faults.rebalances is None or not faults.rebalances.expires:
        program.progress_of = lambda run_id, step: load_json(faults.progress.get((run_id, step), NULL))
    if faults.rebalances is None:
        world = World(program.app, faults, setting, program.limits)
    else:
        program.body_passes = faults.rebalances.body_passes
        world = GroupWorld(program.app, faults, setting, program.limits, faults.rebalances)
    program.epoch_of, program.check_permits = world.epoch_of, lambda: check_held(_logged(world, setting.shards))
    async with world:
        operating = world.operating()
        await program.script(world)
        if operating:
            operating.cancel()
            await asyncio.gather(operating, return_exceptions=True)
        outcome = Outcome(
            results_of(world.history),
            _broken(world, program),
            ends_of(world.history),
            _digest(world, faults),
            minutes_of(world.history),
            len(faults.names),
        )
        # A broken world may never become idle. Schedules with one fault are many, and are not about expiry.
        if not outcome.broken and len(faults.plan) != 1:
            outcome.broken += await _expire(world, program.expiry)
        return outcome


async def _expire(world: World, expiry: str) -> list[str]:
    """Advance the clock until rows that expire are removed, if there are any; return the rows that are left."""
    if not has_expiring_rows(world.stores):
        return []
    if has_bulk_operations(world.stores):
        await world.advance("8d")
    await world.advance(expiry)
    return list(check_rows(world.stores, expired=True))


def _broken(world: World, program: Program) -> list[str]:
    journal, stores = world.journal, world.stores
    assert isinstance(journal, MemoryJournal)
    broken = [*world.complaints, *program.repeated, *check_history(world.history), *check_rows(stores)]
    broken += check_batches(world.history)
    broken += check_passed(world.history)
    written = [_written(journal, shard) for shard in range(len(stores))]
    broken += check_same(stores, [_rows(changes) for changes in written])
    for changes in written:
        broken += check_grants(changes)
    dead_letters = sum(journal.end(DEAD_LETTERS, shard) for shard in range(len(stores)))
    if dead_letters:
        broken.append(f"{dead_letters} dead letters")
    if (ends := ends_of(world.history)) != program.ends:
        broken.append(f"runs ended as {ends} instead of {program.ends}")
    return broken


def _written(journal: MemoryJournal, shard: int) -> list[tuple[bytes, bytes]]:
    """Return the changes in the changelog of a shard, in order: keys with values, which are empty for a deletion."""
    records = journal.read(CHANGELOG, shard, 0, journal.end(CHANGELOG, shard))
    return [(record.key, record.value) for record in records]


def _logged(world: World, shards: int) -> list[dict[bytes, bytes]]:
    assert isinstance(world.journal, MemoryJournal)
    return [_rows(_written(world.journal, shard)) for shard in range(shards)]


def _rows(changes: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Return the rows that are left after all changes."""
    return {key: value for key, value in dict(changes).items() if value}


def _digest(world: World, faults: Faults) -> str:
    digest = hashlib.sha256("\n".join(faults.names).encode())
    for entry in world.history:
        digest.update(encode(entry))
    return digest.hexdigest()[:16]


@functools.cache
def clean(setting: Setting) -> tuple[Sequence[str], Counter[str]]:
    """Return the calls and the results of a schedule without faults; raise UnsoundError if it breaks an invariant."""
    faults = Faults()
    outcome = run_schedule(setting, faults)
    if outcome.broken:
        raise UnsoundError(f"program {setting.program} without any fault: {outcome.broken[0]}")
    return faults.names[: outcome.calls], outcome.results


def judge(setting: Setting, faults: Faults) -> list[str]:
    """Run a schedule, and return the invariants that it breaks."""
    _, expected = clean(setting)
    outcome = run_schedule(setting, faults)
    if not outcome.broken and outcome.results != expected:
        return [f"results {dict(outcome.results)} instead of {dict(expected)}"]
    return outcome.broken


def random_schedule(seed: int, programs: Sequence[str] = sorted(PROGRAMS)) -> tuple[Setting, Faults]:
    """Return the setting and the faults of a seed."""
    draw = random.Random(seed)
    setting = Setting(
        draw.choice(programs),
        draw.choice([1, 1, 3, 5]),
        draw.random() < 0.7,
        draw.choice([1, RUNS_CACHED_MAX]),
        draw.choice([1, RUNS_ACTIVE_MAX]),
        reads=draw.random() < 0.1,
    )
    jitter = draw.randrange(1 << 30) if draw.random() < 0.5 else None
    return setting, Faults(random_plan(draw, clean(setting)[0]), jitter=jitter)


def random_rebalances(
    seed: int, programs: Sequence[str] = (*sorted(GROUP_PROGRAMS), *3 * ("branches",))
) -> tuple[Setting, Faults]:
    """Return the setting and the faults of a seed, with two workers in each group.

    In most schedules nothing else fails: then no body runs twice, and each lease is released.
    """
    draw = random.Random(f"rebalances-{seed}")
    setting, faults = random_schedule(seed, programs)
    disturbed = draw.random() < 0.3
    if not disturbed:
        faults.plan.clear()
    frequency, body_passes = draw.choice(_REBALANCE_FREQUENCIES), draw.choice(_BODY_PASSES)
    faults.rebalances = Rebalances(draw.randrange(1 << 30), frequency, body_passes, expires=disturbed)
    return setting, faults


def random_operators(seed: int, programs: Sequence[str] = _OPERATED) -> tuple[Setting, Faults]:
    """Return the setting and the faults of a seed, with an operator who pauses and resumes runs.

    In half of the schedules nothing else happens; in some, groups of two workers rebalance.
    """
    draw = random.Random(f"operators-{seed}")
    setting, faults = (random_rebalances if draw.random() < 0.3 else random_schedule)(seed, programs)
    if draw.random() < 0.5:
        faults.plan.clear()
    faults.operator = seed
    return setting, faults


def random_plan(draw: random.Random, names: Sequence[str]) -> dict[int, Fault]:
    """Return faults of random calls: reports fail more often, and so do the first calls after another fault."""
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


def judge_seed(seed: int, make: Callable[[int], tuple[Setting, Faults]] = random_schedule) -> list[str]:
    """Run the schedule that `make` returns for a seed, and return the invariants that it breaks."""
    try:
        return judge(*make(seed))
    except UnsoundError as error:
        return [str(error)]
