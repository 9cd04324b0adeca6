"""Disks that take no more, for tests: by a limit that every user may set, or really full where mounts are allowed."""

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TMPFS_MIB = 8
# Less than any file of tables has.
_FILE_BYTES_MAX = 4_096


@contextmanager
def limited_files(bytes_max: int) -> Iterator[None]:
    """Let no file of this process grow beyond `bytes_max` bytes: as on a full disk, a write fails half-way."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes_max, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def limit_files_of(pid: int) -> None:
    """Let no file of another process grow beyond a few kilobytes."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (_FILE_BYTES_MAX, hard))


def unlimit_files_of(pid: int) -> None:
    """Let files of another process grow again."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard, hard))


class SmallDisk:
    """A disk of a few megabytes at `path` that can be filled under a running process.

    It is a tmpfs where this user may mount one. Elsewhere, as for a normal user in CI, the size of the files of the
    process is limited instead: for the process both are a write that the system refuses in the middle.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self.mounted = _run("mount", "-t", "tmpfs", "-o", f"size={_TMPFS_MIB}m", "tmpfs", str(path))
        self._filler = path / "filler"

    def fill(self, pid: int) -> None:
        """Leave no space for a process."""
        if not self.mounted:
            limit_files_of(pid)
            return
        _run("dd", "if=/dev/zero", f"of={self._filler}", "bs=4k")

    def free(self, pid: int) -> None:
        """Give the space back."""
        if self.mounted:
            self._filler.unlink()
        else:
            unlimit_files_of(pid)

    def remove(self) -> None:
        """Unmount the disk."""
        if self.mounted:
            _run("umount", str(self.path))


def _run(*command: str) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
