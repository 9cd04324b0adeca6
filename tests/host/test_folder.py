"""The state folder belongs to one process at a time."""

import errno
import fcntl
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from stepstream.host.folder import locked_folder
from stepstream.host.settings import SettingsError
from stepstream.runtime.readmodel.index import RUNS_FILE, RunIndex
from stepstream.runtime.storage.database import Database

LOCK = """
import sys
from pathlib import Path
from stepstream.host.folder import locked_folder

with locked_folder(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_a_folder_in_use_is_refused_until_its_process_is_gone(tmp_path: Path) -> None:
    """A second engine would take shards whose tables it cannot open; a killed process releases the folder."""
    folder = tmp_path / "state"
    holder = subprocess.Popen(
        [sys.executable, "-c", LOCK, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "locked\n"
        with (
            pytest.raises(SettingsError, match=r"is in use by another process; .* another --data-dir"),
            locked_folder(folder),
        ):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with locked_folder(folder):
        pass


def test_a_path_that_cannot_be_a_folder_is_refused(tmp_path: Path) -> None:
    """The error names the option for another folder."""
    (tmp_path / "file").touch()
    with (
        pytest.raises(SettingsError, match=r"cannot hold state .* --data-dir"),
        locked_folder(tmp_path / "file"),
    ):
        pass


def test_a_disk_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network disks have none."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(SettingsError, match=r"cannot be locked \(No locks available\); .* on a local disk"),
        locked_folder(tmp_path),
    ):
        pass


def test_state_in_an_open_folder_is_closed(tmp_path: Path) -> None:
    """An image or a volume may come with a folder that any user may read; tables and runs in it are closed to them."""
    tmp_path.chmod(0o755)
    before = os.umask(0o022)
    try:
        Database(tmp_path / "shard-0").close()
        index = RunIndex(tmp_path / RUNS_FILE)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        index.close()
    finally:
        os.umask(before)
    assert modes.pop("shard-0") == 0o700
    assert modes == dict.fromkeys((RUNS_FILE, f"{RUNS_FILE}-wal", f"{RUNS_FILE}-shm"), 0o600)


def test_only_the_own_user_may_read_state(tmp_path: Path) -> None:
    """A folder that the process creates is closed to other users; one that exists keeps its rights."""
    created, existing = tmp_path / "created" / "state", tmp_path / "existing"
    existing.mkdir(mode=0o750)
    for folder in (created, existing):
        with locked_folder(folder):
            pass
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (created, existing)] == [0o700, 0o750]
