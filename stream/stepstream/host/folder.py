"""The state folder of a process, which only one process may use at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stepstream.host.settings import SettingsError

_LOCK = "LOCK"
# Only the process's own user may read state: it holds the data of events and results of steps.
_MODE = 0o700


@contextmanager
def locked_folder(data_dir: Path) -> Iterator[None]:
    """Create the state folder and hold its lock while the block runs; raise SettingsError if that is not possible.

    The lock ends with the process, even after `kill -9`. Two engines in one folder would share the shards between
    them, and neither could open the tables of the other.
    """
    try:
        if not data_dir.is_dir():
            data_dir.mkdir(mode=_MODE, parents=True, exist_ok=True)
        lock = (data_dir / _LOCK).open("ab")
    except OSError as error:
        reason = f"{data_dir} cannot hold state ({error.strerror}); choose another folder with --data-dir"
        raise SettingsError(reason) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            reason = f"{data_dir} is in use by another process; stop it, or give this process another --data-dir"
            raise SettingsError(reason) from None
        except OSError as error:
            reason = f"{data_dir} cannot be locked ({error.strerror}); give a --data-dir on a local disk"
            raise SettingsError(reason) from None
        yield
