"""The slots of a worker: how many runs may have running code, and the queue of those that wait for a slot."""

from collections import OrderedDict
from typing import Generic, TypeVar

from stepstream.runtime.worker.live_run import Live

L = TypeVar("L", bound=Live)


class Slots(Generic[L]):
    """At most `active_max` runs have a slot.

    A detached run has none, but it has to stay in memory. With `detached_max` of them no other run is started. One that
    is in memory is resumed all the same. Runs get their slots in the order in which they queued.
    """

    def __init__(self, active_max: int, detached_max: int) -> None:
        self.active_max = active_max
        self._detached_max = detached_max
        self.active: set[L] = set()
        self._detached: set[L] = set()
        # In the order of their arrival; a run that is to be resumed has True.
        self.waiting: OrderedDict[L, bool] = OrderedDict()
        self._resuming = 0

    def queue(self, live: L, *, resumes: bool) -> None:
        """Add a run that waits for a slot, to resume its code or to start it."""
        self.waiting[live] = resumes
        self._resuming += resumes

    def withdraw(self, live: L) -> None:
        """Remove a run from those that wait."""
        self._resuming -= self.waiting.pop(live, False)

    def take(self, live: L) -> None:
        """Give a run a slot, also where all are occupied."""
        self.withdraw(live)
        self._detached.discard(live)
        self.active.add(live)

    def detach(self, live: L) -> None:
        """Take the slot of a run that stays in memory."""
        self.active.discard(live)
        self._detached.add(live)

    def release(self, live: L) -> None:
        """Take the slot of a run that may leave the memory."""
        self.active.discard(live)
        self._detached.discard(live)

    def next(self) -> L | None:
        """Return and remove the first waiting run that may have a slot now."""
        if len(self.active) >= self.active_max:
            return None
        crowded = len(self._detached) >= self._detached_max
        if crowded and not self._resuming:
            return None
        found = next((live for live, resumes in self.waiting.items() if resumes or not crowded), None)
        if found is not None:
            self.withdraw(found)
        return found
