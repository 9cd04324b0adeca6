"""Which runs the latest batches of history changed, for those who show runs live."""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from stepstream.runtime.notification import Notification

CHANGED_RUNS_MAX = 10_000
_EPOCH_BYTES = 4


class RunChanges:
    """A version that each batch of history increases, and the runs that changed since earlier versions.

    Runs are noted only while someone watches, the last CHANGED_RUNS_MAX of them: watchers who missed more read again
    all that they show. Versions count from the start of the process.
    """

    def __init__(self, runs_max: int = CHANGED_RUNS_MAX) -> None:
        self.version = 0
        self._notification = Notification()
        self._runs_max = runs_max
        self._epoch = secrets.token_hex(_EPOCH_BYTES)
        self._watchers = 0
        # The last version that changed a run, in the order of versions; changes up to `_floor` are not known.
        self._changed: dict[str, int] = {}
        self._floor = 0

    def add(self, run_ids: Iterable[str]) -> None:
        """Note that a batch changed these runs."""
        self.version += 1
        if not self._watchers:
            self._changed.clear()
            self._floor = self.version
            return
        for run_id in run_ids:
            self._changed.pop(run_id, None)
            self._changed[run_id] = self.version
        while len(self._changed) > self._runs_max:
            oldest = next(iter(self._changed))
            self._floor = self._changed.pop(oldest)
        self._notification.notify()

    def forget(self) -> None:
        """Note that any run may have changed."""
        self.version += 1
        self._changed.clear()
        self._floor = self.version
        self._notification.notify()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Note changes during the block."""
        self._watchers += 1
        try:
            yield
        finally:
            self._watchers -= 1

    async def after(self, version: int, timeout_s: float) -> bool:
        """Wait for a later version; return whether it came in time."""
        return await self._notification.until(lambda: self.version != version, timeout_s)

    def among(self, run_ids: Sequence[str], since: int) -> list[str]:
        """Return which of these runs changed after a version; all of them if that is not known."""
        if not self._floor <= since <= self.version:
            return list(run_ids)
        return [run_id for run_id in run_ids if self._changed.get(run_id, 0) > since]

    def mark(self, version: int | None = None) -> str:
        """Return a version (the current one) as text that only this process understands."""
        return f"{self._epoch}-{self.version if version is None else version}"

    def version_of(self, mark: str) -> int:
        """Return the version of a mark; -1, since which all has changed, for one of another process."""
        epoch, _, version = mark.partition("-")
        known = epoch == self._epoch and version.isascii() and version.isdecimal()
        return int(version) if known else -1
