"""A list of runs whose disk is full or refuses access: the error says what to do, and nothing has to be rebuilt."""

import resource
from pathlib import Path

import pytest
from typer.testing import CliRunner

from stepstream.cli.main import cli
from stepstream.contract.codec import Raw, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.history import RunBegan
from stepstream.contract.topics import HISTORY
from stepstream.runtime.ports import LogRecord, StoreError
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.views import UnreadableRuns
from tests.disk import limited_files

LIMIT_BYTES = 800_000


def batch(first: int) -> list[LogRecord]:
    """Return the beginnings of some runs, at their positions in history."""
    found = []
    for number in range(first, first + 100):
        began = RunBegan(f"r{number:05d}", 1, 1_000, "function", "shop", 1_000, (EventRecord("go", Raw(b"1"), "e"),))
        found.append(LogRecord(HISTORY, 0, number, began.run_id.encode(), encode(began), (), began.at))
    return found


def test_full_disk_stops_the_list_until_there_is_space(tmp_path: Path) -> None:
    """Each batch is folded wholly or not at all, and the same batch is folded once there is space."""
    index = RunIndex(tmp_path / "runs.sqlite")

    def fold_all() -> None:
        for first in range(index.position(HISTORY, 0), 20_000, 100):
            index.fold(batch(first))

    with limited_files(LIMIT_BYTES):
        for _ in range(3):
            with pytest.raises(StoreError, match=r"runs.sqlite cannot be used \(.+\); check its disk and the free"):
                fold_all()
    folded = index.position(HISTORY, 0)
    assert sum(index.counts().values()) == folded > 0
    index.fold(batch(folded))
    assert index.position(HISTORY, 0) == sum(index.counts().values()) == folded + 100
    index.close()


def test_list_that_cannot_be_opened_is_kept(tmp_path: Path) -> None:
    """A process without a free file cannot start, and does not take the list for a corrupt one."""
    path = tmp_path / "runs.sqlite"
    RunIndex(path).close()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(UnreadableRuns, match=r"cannot be used \(unable to open database file\); .*ulimit -n"):
            RunIndex(path)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert not path.with_name("runs.sqlite.aside").exists()
    RunIndex(path).close()


def test_prune_on_a_full_disk_ends_with_one_line(tmp_path: Path) -> None:
    """A file of runs needs space to become smaller."""
    index = RunIndex(tmp_path / "runs.sqlite")
    for first in range(0, 1_000, 100):
        index.fold(batch(first))
    index.close()
    with limited_files(LIMIT_BYTES // 4):
        done = CliRunner().invoke(cli, ["runs", "prune", "--older-than", "1h", "--data-dir", str(tmp_path), "--yes"])
    assert done.exit_code == 2
    assert isinstance(done.exception, SystemExit)
    assert "runs.sqlite cannot be used (" in done.stderr
