"""The command of the benchmarks refuses names that it does not know."""

import sys

import pytest

from benchmarks.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nope"], "there is no runtime 'nope', only laptop, cluster, failover, lookback, hotname"),
        (["laptop", "typo"], "laptop has no benchmark typo, only bare_loop, idle_latency, long_run, throughput, waits"),
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
