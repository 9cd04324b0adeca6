"""Groups of two workers rebalance and drain while bodies are running: no body runs twice, and no lease is left."""

from collections.abc import Iterable

import pytest

from stepstream.runtime.worker.runs.lifecycle import Life
from stepstream.runtime.worker.runs.states import Effect, Event, Ownership
from tests.sim.schedule import judge_seed, random_rebalances

SEEDS = 12
SEEDS_IN_FULL = 150


def broken_by(seeds: Iterable[int]) -> str:
    """Return the broken invariants of the schedules of these seeds, one line per seed."""
    broken = {seed: found for seed in seeds if (found := judge_seed(seed, random_rebalances))}
    return "\n".join(f"WORKERS=2 SEED={seed}: {found[0]}" for seed, found in broken.items())


@pytest.mark.slow
def test_rebalances_break_no_invariant(monkeypatch: pytest.MonkeyPatch) -> None:
    """The schedules together take runs through every ownership."""
    reached = set[Ownership]()
    on = Life.on

    def record(life: Life, event: Event) -> tuple[Effect, ...]:
        effects = on(life, event)
        reached.add(life.ownership)
        return effects

    monkeypatch.setattr(Life, "on", record)
    broken = broken_by(range(SEEDS))
    assert not broken, broken
    assert reached == set(Ownership)


@pytest.mark.slow
@pytest.mark.long
def test_more_rebalances_break_no_invariant() -> None:
    """More schedules of the same kind."""
    broken = broken_by(range(SEEDS, SEEDS_IN_FULL))
    assert not broken, broken
