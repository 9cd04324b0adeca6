"""Runs wait for limits, whatever fails: each run ends once, as without faults, and no permit is lost."""

import functools

import pytest

from tests.sim.gate_programs import GATE_PROGRAMS
from tests.sim.schedule import judge_seed, random_operators
from tests.sim.sweeps import broken_by, broken_by_crashes
from tests.sim.work_programs import WORK_PROGRAMS
from tests.sim.world import Setting

PROGRAMS = sorted(GATE_PROGRAMS)
SEEDS = 5
_operated = functools.partial(random_operators, programs=sorted(WORK_PROGRAMS))
SEEDS_IN_FULL = 100


@pytest.mark.slow
def test_limits_break_no_invariant() -> None:
    """With random faults, on several shards, and with two workers in each group."""
    broken = broken_by(PROGRAMS, range(SEEDS))
    assert not broken, broken


@pytest.mark.slow
def test_pauses_of_runs_with_limits_on_work_break_no_invariant() -> None:
    """An operator pauses and resumes runs that are executing, parked, or wait for their permits again."""
    broken = [found for seed in range(SEEDS) if (found := judge_seed(seed, _operated))]
    assert not broken, broken


@pytest.mark.slow
@pytest.mark.long
def test_more_limits_break_no_invariant() -> None:
    """More schedules of the same kind."""
    broken = broken_by(PROGRAMS, range(SEEDS, SEEDS_IN_FULL))
    assert not broken, broken


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("shards", "stride"), [(1, 1), (3, 4)])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_crash_at_any_call_changes_nothing(program: str, shards: int, stride: int) -> None:
    """A crash before and after each call of a port, as far as these differ; on three shards, every fourth one."""
    broken = broken_by_crashes(Setting(program, shards), stride)
    assert not broken, broken
