"""Judging schedules against the one without faults."""

import asyncio
import random
from functools import cache

from tests.sim.faults import AFTER, BEFORE, Faults
from tests.sim.programs import PROGRAMS
from tests.sim.schedule import Outcome, run_schedule

CRASHES_MAX = 6
SCHEDULE_S_MAX = 3.0


@cache
def clean(name: str, shards: int, live_cache: bool) -> Outcome:
    """Return the outcome of a program without faults; it must itself be sound."""
    outcome = asyncio.run(run_schedule(name, Faults(), shards=shards, live_cache=live_cache))
    assert not outcome.broken, outcome.broken
    return outcome


def judge(name: str, faults: Faults, *, shards: int = 1, live_cache: bool = True) -> list[str]:
    """Run a schedule and return what is wrong with it."""
    expected = clean(name, shards, live_cache)

    async def bounded() -> Outcome:
        async with asyncio.timeout(SCHEDULE_S_MAX):
            return await run_schedule(name, faults, shards=shards, live_cache=live_cache)

    try:
        outcome = asyncio.run(bounded())
    except TimeoutError:
        return [f"no end within {SCHEDULE_S_MAX} s"]
    except Exception as error:  # noqa: BLE001 - whatever ends a schedule is its fault
        return [f"{type(error).__name__}: {error}"]
    broken = list(outcome.broken)
    if outcome.results != expected.results:
        broken.append(f"results {outcome.results} instead of {expected.results}")
    return broken + too_many_effects(expected, outcome)


def too_many_effects(expected: Outcome, outcome: Outcome) -> list[str]:
    """Return the bodies that ran more often than the crashes explain: each can repeat one at most."""
    extra = sum(max(count - expected.effects[at], 0) for at, count in outcome.effects.items())
    lost = [str(at) for at, count in expected.effects.items() if outcome.effects[at] < count]
    allowed = outcome.faults.crashes * max(len(expected.effects), 1)
    return [f"{extra} bodies too many"] * (extra > allowed) + [f"{at} never ran" for at in lost]


def random_schedule(seed: int) -> tuple[str, Faults, int, bool]:
    """Return the program, the faults, the shards and the cache of a seed."""
    draw = random.Random(seed)
    name = draw.choice(sorted(PROGRAMS))
    shards = draw.choice([1, 1, 3, 5])
    live_cache = draw.random() < 0.7
    calls = clean(name, shards, live_cache).faults.calls
    crashes = draw.randint(1, CRASHES_MAX)
    plan = {draw.randrange(int(calls * 1.5)): draw.choice([BEFORE, AFTER]) for _ in range(crashes)}
    lose = {number: draw.choice(["wiped", "stale"]) for number in range(1, crashes + 1) if draw.random() < 0.3}
    twice = {number for number in range(int(calls * 1.5)) if draw.random() < 0.1}
    return name, Faults(plan, lose, twice), shards, live_cache


def judge_seed(seed: int) -> list[str]:
    """Run the schedule of a seed and return what is wrong with it."""
    name, faults, shards, live_cache = random_schedule(seed)
    return judge(name, faults, shards=shards, live_cache=live_cache)
