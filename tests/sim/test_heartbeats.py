"""Bodies report their progress and fall silent, whatever fails: each begins with what was reported last."""

import pytest

from tests.sim.heartbeat_programs import HEARTBEAT_PROGRAMS
from tests.sim.sweeps import broken_by, broken_by_crashes
from tests.sim.world import Setting

PROGRAMS = sorted(HEARTBEAT_PROGRAMS)
# With two workers, a run once waited forever in the last of them.
SEEDS = (*range(6), 38)
SEEDS_IN_FULL = range(6, 100)


@pytest.mark.slow
def test_heartbeats_break_no_invariant() -> None:
    """With random faults, on several shards, and with two workers in each group."""
    broken = broken_by(PROGRAMS, SEEDS)
    assert not broken, broken


@pytest.mark.slow
@pytest.mark.long
def test_more_heartbeats_break_no_invariant() -> None:
    """More schedules of the same kind."""
    broken = broken_by(PROGRAMS, SEEDS_IN_FULL)
    assert not broken, broken


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize(("shards", "stride"), [(1, 1), (3, 4)])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_crash_at_any_call_loses_no_progress(program: str, shards: int, stride: int) -> None:
    """A crash before and after each call of a port, as far as these differ; on three shards, every fourth one."""
    broken = broken_by_crashes(Setting(program, shards), stride)
    assert not broken, broken
