"""The command of the benchmarks refuses names that it does not know, and keeps what was measured before a failure."""

import sys
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.against import compared
from benchmarks.failover import Findings, measure_all
from benchmarks.functions import Figure
from benchmarks.queued import measured


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["nope"],
            "there is no runtime 'nope', only laptop, against, cluster, delays, failover, flood, gateway, growth, "
            "lookback, hotname, memory, queued, readmodel, live",
        ),
        (
            ["laptop", "typo"],
            "laptop has no benchmark typo, only bare_loop, bulk, idle_latency, limits, long_run",
        ),
        (["laptop", "waits", "typo"], "laptop has no benchmark typo, only"),
        (["cluster", "waits"], "cluster has no benchmark waits, only bare, one_engine, recovery, two_engines"),
    ],
)
def test_an_unknown_benchmark_is_refused(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown name ends the command with 2 and the known names; nothing is measured."""
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out) == (2, "")
    assert message in printed.err


def test_measurement_that_fails_keeps_figures_and_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    """Each silence is printed as it comes; the figures are a distribution; the command fails at its end."""

    async def first(_bootstrap: str, findings: Findings) -> None:
        silences = findings.silences("killed", p99="< 3")
        findings.silences("of which there are none")
        for hundredths in range(1, 102):
            silences.add(hundredths / 100)
        raise TimeoutError

    async def second(_bootstrap: str, findings: Findings) -> None:
        findings.silences("stopped").add(0.5)

    figures: list[Figure] = []
    with pytest.raises(SystemExit, match="ended early: first"):
        figures.extend(measure_all((first, second), "nowhere:9092"))
    assert "  killed 1: 0.01 s\n" in capsys.readouterr().out
    assert [(figure.name, round(figure.value, 2), figure.aim) for figure in figures] == [
        ("killed, p50 of 101", 0.51, ""),
        ("killed, p90 of 101", 0.91, ""),
        ("killed, p99 of 101", 1.0, "< 3"),
        ("killed, max of 101", 1.01, ""),
        *((f"stopped, {which} of 1", 0.5, "") for which in ("p50", "p90", "p99", "max")),
    ]


@pytest.mark.parametrize("fair", ["", "event.data.tenant"])
def test_queue_of_a_limit_is_measured_at_each_size(fair: str) -> None:
    """Each size has a cost per run and per grant; the queue is as long as the figures say while grants are measured."""
    figures = {figure.name.strip(): figure.value for figure in measured(3_000, fair)}
    sizes = [name.partition(" ")[0] for name in figures if "the next grant" in name]
    assert sizes == ["1,000", "3,000"]
    assert all(value > 0 for value in figures.values())


def test_commits_are_compared_by_medians_of_alternating_rounds() -> None:
    """Neither commit is always measured first; the ratio is that of the medians, not of single rounds."""
    old, new = Path("old"), Path("new")
    rates = iter([100.0, 90.0, 500.0, 110.0, 100.0, 98.0])
    measured_trees: list[Path] = []

    def rate(tree: Path) -> float:
        measured_trees.append(tree)
        return next(rates)

    *_, before, after, ratio = compared(old, new, 3, rate)
    assert measured_trees == [old, new, new, old, old, new]
    assert (before.value, after.value, ratio.value) == (100.0, 98.0, 0.98)
