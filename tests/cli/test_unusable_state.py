"""`stepstream dev` on state that it cannot use ends with one line, which has the remedy, and exit code 2."""

import functools
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.refusals import WITHOUT_PRIVILEGES, refused
from tests.cli.serving import APP

pytestmark = pytest.mark.long
DEV = [sys.executable, "-m", "stepstream", "dev", "app.py", "--no-reload", "--port", "0", "--data-dir", "state"]


def refused_dev(folder: Path, *prefix: str, limit: Callable[[], None] | None = None) -> str:
    """Return the only line of `stepstream dev` that ends with 2."""
    (folder / "app.py").write_text(APP, encoding="utf-8")
    return refused([*prefix, *DEV], folder, limit, EFFECTS="effects.txt")


def used(folder: Path) -> Path:
    """Return the state folder of a process that has ended."""
    (folder / "app.py").write_text(APP, encoding="utf-8")
    state = folder / "state"
    code = "import pathlib, sys; from stepstream.runtime.storage.rocks import RocksJournal as J; J(pathlib.Path('db'))"
    state.mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=state, check=True)
    return state


def test_corrupt_journal_is_reported(tmp_path: Path) -> None:
    """It is the only copy of its runs, so nothing is deleted."""
    (used(tmp_path) / "db" / "CURRENT").write_bytes(b"garbage")
    line = refused_dev(tmp_path)
    assert "the journal in state/db is corrupt (Corruption: " in line
    assert "; restore the folder from a copy, or rename it to start without its runs" in line
    assert (tmp_path / "state" / "db" / "CURRENT").read_bytes() == b"garbage"


def test_folder_of_another_user_is_reported(tmp_path: Path) -> None:
    """The line names the part that cannot be written: the journal, the list of runs, or the whole folder."""
    state, denied = used(tmp_path), functools.partial(refused_dev, tmp_path, *WITHOUT_PRIVILEGES)
    (state / "db").chmod(0o500)
    rights = "make it writable for the user of this process, or choose another folder with --data-dir"
    assert f"the journal in state/db cannot be used (Permission denied); {rights}" in denied()
    (state / "db").chmod(0o700)
    state.chmod(0o500)
    assert "the list of runs in state/runs.sqlite cannot be used (unable to open" in denied()
    (state / "LOCK").chmod(0o400)
    assert "state cannot hold state (Permission denied); choose another folder" in denied()
    state.chmod(0o700)


def test_file_in_place_of_a_folder_is_reported(tmp_path: Path) -> None:
    """For the state folder, and for the folder of the journal in it."""
    (tmp_path / "state").touch()
    assert "state cannot hold state (File exists); choose another folder" in refused_dev(tmp_path)
    (tmp_path / "state").unlink()
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "db").touch()
    assert "the journal in state/db cannot be used (File exists); remove this file" in refused_dev(tmp_path)


def test_full_disk_at_the_start_is_reported(tmp_path: Path) -> None:
    """RocksDB writes a few files when it opens a journal."""
    used(tmp_path)
    line = refused_dev(tmp_path, limit=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100)))
    assert "the journal in state/db cannot be used (File too large); " in line
