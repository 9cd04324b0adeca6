"""The folder of the state is that of one process at a time."""

import errno
import fcntl
import subprocess
import sys
from pathlib import Path

import pytest

from stepstream.host.folder import held_folder
from stepstream.host.settings import SettingsError

HOLD = """
import sys
from pathlib import Path
from stepstream.host.folder import held_folder

with held_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_folder_in_use_is_refused_until_its_process_is_gone(tmp_path: Path) -> None:
    """A second engine on it would take shards whose tables it cannot open; a process that is killed lets go of it."""
    folder = tmp_path / "state"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(SettingsError, match=r"is in use by another process; .* --data-dir of its own"),
            held_folder(folder),
        ):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with held_folder(folder):
        pass


def test_what_cannot_be_a_folder_is_told(tmp_path: Path) -> None:
    """With the option that names another."""
    (tmp_path / "file").touch()
    with (
        pytest.raises(SettingsError, match=r"cannot be a folder for state .* --data-dir"),
        held_folder(tmp_path / "file"),
    ):
        pass


def test_a_disk_that_takes_no_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As some network disks do."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(SettingsError, match=r"cannot be locked \(No locks available\); give a --data-dir on a disk"),
        held_folder(tmp_path),
    ):
        pass
