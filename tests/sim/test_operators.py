"""An operator pauses and resumes runs at any moment: they end as without one, and nothing runs meanwhile or twice."""

from collections.abc import Iterable

import pytest

from tests.sim.schedule import judge_seed, random_operators

SEEDS = 10
SEEDS_IN_FULL = 150


def broken_by(seeds: Iterable[int]) -> str:
    """Return the broken invariants of the schedules of these seeds, one line per seed."""
    broken = {seed: found for seed in seeds if (found := judge_seed(seed, random_operators))}
    return "\n".join(f"OPERATOR=1 SEED={seed}: {found[0]}" for seed, found in broken.items())


@pytest.mark.slow
def test_pauses_break_no_invariant() -> None:
    """With faults and rebalances, and without."""
    broken = broken_by(range(SEEDS))
    assert not broken, broken


@pytest.mark.slow
@pytest.mark.long
def test_more_pauses_break_no_invariant() -> None:
    """More schedules of the same kind."""
    broken = broken_by(range(SEEDS, SEEDS_IN_FULL))
    assert not broken, broken
