"""Runs wait for limits, whatever fails: each run ends once, as without faults, and no permit is lost."""

from collections.abc import Iterable

import pytest

from tests.sim.faults import Disk, Fault, Faults, Kind
from tests.sim.gate_programs import GATE_PROGRAMS
from tests.sim.schedule import clean, judge, judge_seed, random_rebalances, random_schedule
from tests.sim.world import Setting

PROGRAMS = sorted(GATE_PROGRAMS)
SEEDS = 15
SEEDS_IN_FULL = 400


def broken_by(seeds: Iterable[int]) -> str:
    """Return the broken invariants of the schedules of these seeds, one line per seed."""
    broken: list[str] = []
    for make in (random_schedule, random_rebalances):
        for seed in seeds:
            broken += judge_seed(seed, lambda seed, make=make: make(seed, PROGRAMS))[:1]  # type: ignore[misc]
    return "\n".join(broken)


@pytest.mark.slow
def test_limits_break_no_invariant() -> None:
    """With random faults, on several shards, and with two workers in each group."""
    broken = broken_by(range(SEEDS))
    assert not broken, broken


@pytest.mark.slow
@pytest.mark.long
def test_more_limits_break_no_invariant() -> None:
    """More schedules of the same kind."""
    broken = broken_by(range(SEEDS, SEEDS_IN_FULL))
    assert not broken, broken


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_crash_at_any_call_changes_nothing(program: str, shards: int) -> None:
    """A crash before and after each call of a port."""
    setting = Setting(program, shards)
    names, _ = clean(setting)
    broken: list[str] = []
    for number, name in enumerate(names):
        for kind in (Kind.BEFORE, Kind.AFTER):
            found = judge(setting, Faults({number: Fault(kind, Disk.KEPT)}))
            broken += [f"crash {kind.value} call {number} ({name}): {problem}" for problem in found]
    assert not broken, "\n".join(broken[:20])
