"""The slots of a worker, which limit how much code runs at once, and the queue for them."""

from collections import OrderedDict
from typing import Generic, TypeVar

from stepstream.runtime.worker.runs.work_item import WorkItem

Item = TypeVar("Item", bound=WorkItem)


class Slots(Generic[Item]):
    """At most `active_max` items have a slot, in the order in which they queued for one.

    A detached item has no slot, but has to stay in memory. While `detached_max` items are detached, only an item that
    resumes, and so is in memory already, gets a slot.
    """

    def __init__(self, active_max: int, detached_max: int) -> None:
        self.active_max = active_max
        self._detached_max = detached_max
        # In the order in which they got their slots.
        self.active: dict[Item, None] = {}
        self._detached: set[Item] = set()
        # Whether an item resumes, in the order of the queue.
        self.waiting: OrderedDict[Item, bool] = OrderedDict()
        self._resuming = 0

    def queue(self, item: Item, *, resumes: bool) -> None:
        """Add an item that waits for a slot, to start its code or to resume it."""
        self.waiting[item] = resumes
        self._resuming += resumes

    def withdraw(self, item: Item) -> None:
        """Remove an item from the queue, if it waits."""
        self._resuming -= self.waiting.pop(item, False)

    def take(self, item: Item) -> None:
        """Give an item a slot, even if all are occupied."""
        self.withdraw(item)
        self._detached.discard(item)
        self.active[item] = None

    def detach(self, item: Item) -> None:
        """Release the slot of an item that stays in memory."""
        self.active.pop(item, None)
        self._detached.add(item)

    def release(self, item: Item) -> None:
        """Release the slot of an item that may leave the memory."""
        self.active.pop(item, None)
        self._detached.discard(item)

    def next(self) -> Item | None:
        """Remove the first item of the queue that may have a slot now, and return it."""
        if not self.waiting or len(self.active) >= self.active_max:
            return None
        crowded = len(self._detached) >= self._detached_max
        if crowded and not self._resuming:
            return None
        found = next((item for item, resumes in self.waiting.items() if resumes or not crowded), None)
        if found is not None:
            self.withdraw(found)
        return found
