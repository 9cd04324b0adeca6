"""The loop survives a crash before and after every call of a port, and many crashes by seed."""

import pytest

from tests.sim.faults import AFTER, BEFORE, Faults
from tests.sim.judge import clean, judge, judge_seed
from tests.sim.programs import PROGRAMS

SEEDS = 400


@pytest.mark.parametrize("live_cache", [True, False], ids=["live", "replayed"])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_crash_at_any_call_changes_nothing(name: str, shards: int, live_cache: bool) -> None:
    """Each accepted run ends once, each result is applied once, no timer is early, history has no gaps."""
    calls = clean(name, shards, live_cache).faults.calls
    assert calls > 50
    failures: list[str] = []
    crashed = 0
    for at in range(calls):
        for when in (BEFORE, AFTER):
            faults = Faults({at: when})
            found = judge(name, faults, shards=shards, live_cache=live_cache)
            crashed += faults.crashes
            failures += [f"crash {when} call {at} ({faults.names[at]}): {problem}" for problem in found]
    assert not failures, "\n".join(failures[:20])
    assert crashed > calls, "the faults were not injected"


@pytest.mark.parametrize("lost", ["wiped", "stale"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_lost_tables_come_back_from_the_changelog(name: str, lost: str) -> None:
    """A shard that comes up on an empty or an old disk recovers all of it."""
    calls = clean(name, 1, live_cache=True).faults.calls
    failures: list[str] = []
    for at in range(0, calls, 3):
        for problem in judge(name, Faults({at: AFTER}, {1: lost})):
            failures.append(f"crash after call {at}: {problem}")
    assert not failures, "\n".join(failures[:20])


def test_random_schedules_change_nothing() -> None:
    """Several crashes, with lost and stale tables, by seed."""
    failures = {seed: found for seed in range(SEEDS) if (found := judge_seed(seed))}
    assert not failures, f"python -m tests.sim SEED={min(failures)}: {failures[min(failures)]}"
