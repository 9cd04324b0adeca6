"""The folder of a process' state, which is that of one process."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stepstream.host.settings import SettingsError

_LOCK = "LOCK"


@contextmanager
def held_folder(data_dir: Path) -> Iterator[None]:
    """Make the folder of the state, and have it for ourselves while the block runs; else raise SettingsError.

    The lock goes with the process, however it ends. Two engines on one folder would share the shards out among them,
    and neither could open what the other has.
    """
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / _LOCK).open("ab")
    except OSError as error:
        reason = f"{data_dir} cannot be a folder for state ({error.strerror}); give another by --data-dir"
        raise SettingsError(reason) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reason = f"{data_dir} is in use by another process; stop that one, or give this one a --data-dir of its own"
            raise SettingsError(reason) from None
        except OSError as error:
            reason = f"{data_dir} cannot be locked ({error.strerror}); give a --data-dir on a disk of this machine"
            raise SettingsError(reason) from None
        yield
