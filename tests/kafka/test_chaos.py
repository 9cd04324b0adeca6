"""Faults on a real broker, under load: nothing is lost, nothing is there twice, and real transactions were aborted."""

from pathlib import Path

import pytest

from tests.kafka.chaos import Plan, run

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
KILLS = Plan(50, seed=7, faults=("engine", "wiped", "stale", "worker", "both", "repeated", "poison"))
MOVES = Plan(
    0,
    seed=11,
    faults=(
        "frozen-engine",
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


# What there must be some of: faults that break nothing show nothing.
KILLED = (
    "engines killed",
    "workers killed",
    "disks wiped",
    "disks set back",
    "transactions aborted",
    "duplicates refused",
    "records put aside",
)
MOVED = (
    "frozen engines fenced",
    "shards moved to another engine",
    "runs moved to another worker",
    "transactions aborted",
)


@pytest.mark.parametrize(("plan", "evidence"), [(KILLS, KILLED), (MOVES, MOVED)], ids=["kills", "moves"])
def test_faults_lose_nothing(
    plan: Plan, evidence: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each accepted event gives its runs, which end once, each result once; no body runs after its result was applied.

    Fifty engines are killed, some with their disks lost or set back, and workers with them, while events come twice and
    records come that nobody can read; then members are frozen, join and leave, and the broker goes and
    comes back, and stands still for longer than a commit may take.
    """
    with capsys.disabled():
        verdict = run(plan, tmp_path, lambda _line: None)
        print(f"\n{verdict}")
    assert not verdict.broken, verdict
    assert verdict.figures["engines killed"] >= plan.kills
    assert [name for name in evidence if not verdict.figures[name]] == []
