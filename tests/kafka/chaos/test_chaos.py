"""Faults on a real broker under load: no event is lost, no result exists twice, and real transactions were aborted."""

from pathlib import Path

import pytest

from tests.kafka.chaos.run import Plan, run

pytestmark = [pytest.mark.kafka, pytest.mark.alone]
SHORT = Plan(2, seed=5, faults=("engine-in-commit", "wiped", "worker", "repeated", "poison"))
KILLS = Plan(
    30,
    seed=7,
    faults=("engine", "engine-in-commit", "wiped", "stale", "worker", "both", "suspected", "repeated", "poison"),
)
MOVES = Plan(
    0,
    seed=11,
    faults=(
        "frozen-engine",
        "suspected",
        "frozen-worker",
        "more-engines",
        "more-workers",
        "rolled-engine",
        "rolled-worker",
        "broker-killed",
        "broker-stopped",
        "broker-frozen",
    ),
    engines=3,
    workers=3,
)
OPERATOR = Plan(
    4,
    seed=13,
    # Without a kill in a commit, no transaction may be aborted: kills seldom hit one.
    faults=(
        "engine",
        "engine-in-commit",
        "partition-added",
        "setting-removed",
        "commands-recreated",
        "engine-clock",
        "worker-clock",
    ),
)
PLANS = [
    pytest.param(SHORT, id="short"),
    pytest.param(KILLS, id="kills", marks=pytest.mark.long),
    pytest.param(MOVES, id="moves", marks=pytest.mark.long),
    pytest.param(OPERATOR, id="operator", marks=pytest.mark.long),
]


@pytest.mark.parametrize("plan", PLANS)
def test_faults_lose_and_duplicate_nothing(plan: Plan, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each accepted event has its runs, which end once; each step has one result, and no body runs after it.

    Engines are killed, some in a commit and some with their disks wiped or rolled back, and workers with them, while
    duplicates and records that cannot be parsed arrive, and engines take over the shards of healthy ones. In another
    plan members are suspended, join and leave, and the broker restarts and stalls for longer than a commit may take; in
    the last one an operator changes topics, and clocks jump.
    The judge also fails a run whose faults had no effect.
    """
    with capsys.disabled():
        verdict = run(plan, tmp_path, lambda _line: None)
        print(f"\n{verdict}")
    assert not verdict.broken, verdict
    assert verdict.figures["engines killed"] >= plan.kills
