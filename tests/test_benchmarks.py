"""The command of the benchmarks: what it is asked for is known, or told."""

import sys

import pytest

from benchmarks.__main__ import main


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["nope"], "there is no runtime 'nope', only laptop, cluster"),
        (["laptop", "typo"], "laptop has no benchmark typo, only bare_loop, idle_latency, long_run, throughput, waits"),
        (["laptop", "waits", "typo"], "laptop has no benchmark typo, only"),
        (["cluster", "waits"], "cluster has no benchmark waits, only bare, one_engine, recovery, two_engines"),
    ],
)
def test_a_benchmark_that_is_none_is_told(
    arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A name that is not known ends the command with 2 and those that are; nothing is measured."""
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out) == (2, "")
    assert told in printed.err
