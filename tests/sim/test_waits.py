"""Random programs of waits end alike, live and replayed, with a small cache, and under any fault."""

import random
from typing import Any

import pytest

from tests.sim.faults import Faults
from tests.sim.random_waits import PREFIX
from tests.sim.schedule import Outcome, random_plan, run_schedule
from tests.sim.world import Setting

SEEDS = 6
SEEDS_IN_FULL = 20
SETTINGS: list[dict[str, Any]] = [
    {},
    {"live_cache": False},
    {"runs_cached_max": 2, "runs_active_max": 1},
    {"shards": 3},
]


def broken_by(seed: int, plans: int) -> list[str]:
    """Return the failures of the program of a seed, under so many plans of faults in each setting."""
    draw = random.Random(seed)
    settings = [Setting(f"{PREFIX}{seed}", **options) for options in SETTINGS]
    expected = run_schedule(settings[0], Faults())
    broken: list[str] = []
    for setting in settings:
        clean = Faults()
        broken += differences(expected, setting, clean)
        for _ in range(plans):
            jitter = draw.choice([None, draw.randrange(1 << 30)])
            broken += differences(expected, setting, Faults(random_plan(draw, clean.names), jitter=jitter))
    return broken


def differences(expected: Outcome, setting: Setting, faults: Faults) -> list[str]:
    """Return how a schedule differs from what is expected: in a broken invariant, in results, or in their times."""
    found = run_schedule(setting, faults)
    schedule = f"{setting} {faults.plan} {faults.jitter}"
    if found.broken:
        return [f"{schedule}: {found.broken[0]}"]
    if found.results != expected.results:
        return [f"{schedule}: {dict(found.results)} instead of {dict(expected.results)}"]
    late = found.minutes - expected.minutes
    return [f"{schedule}: {sorted(late)} instead of {sorted(expected.minutes - found.minutes)}"] if late else []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEEDS))
def test_waits_come_to_the_same_end(seed: int) -> None:
    """In each setting, with and without faults, each step gets its result in the same minute."""
    broken = broken_by(seed, 1)
    assert not broken, "\n".join(broken)


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("seed", range(SEEDS, SEEDS_IN_FULL))
def test_more_waits_come_to_the_same_end(seed: int) -> None:
    """More programs end alike, under more faults."""
    broken = broken_by(seed, 4)
    assert not broken, "\n".join(broken)
