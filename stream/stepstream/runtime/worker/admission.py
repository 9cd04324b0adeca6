"""Which item of a worker gets a slot next, and when: as slots, memory and the event loop permit."""

from collections.abc import Callable
from typing import Generic, TypeVar

from stepstream.contract.limits import TASKS_STARTED_PER_ITERATION_MAX
from stepstream.runtime.notification import Notification
from stepstream.runtime.worker.memory import MemoryBudget
from stepstream.runtime.worker.runs.slots import Slots
from stepstream.runtime.worker.runs.work_item import WorkItem
from stepstream.sdk.replay.pacing import Pacer

Item = TypeVar("Item", bound=WorkItem)


class Admission(Generic[Item]):
    """Gives free slots to the items that wait for one: `start` is called for each item whose code starts or resumes.

    `fail` gets an error of `start` in a callback of the event loop, where nothing else reports it. `changed` is
    notified after each attempt to give slots away.
    """

    def __init__(
        self,
        slots: Slots[Item],
        memory: MemoryBudget,
        changed: Notification,
        start: Callable[[Item], object],
        fail: Callable[[Exception], None],
    ) -> None:
        self._slots = slots
        self._memory = memory
        self._changed = changed
        self._start = start
        self._fail = fail
        self._pacer = Pacer(TASKS_STARTED_PER_ITERATION_MAX, self.admit_later)
        # How many tasks the code of each function created when it last ran.
        self._tasks_created: dict[str, int] = {}

    def queue(self, item: Item, *, resumes: bool) -> None:
        """Let an item wait for a slot, to start its code or to resume it."""
        self._slots.queue(item, resumes=resumes)
        self.admit()

    def detach(self, item: Item) -> None:
        """Release the slot of an item that stays in memory."""
        self._slots.detach(item)
        self.admit()

    def release(self, item: Item) -> None:
        """Release the slot of an item that may leave the memory, or its place in the queue."""
        self._slots.withdraw(item)
        self._slots.release(item)
        self.admit()

    def admit(self) -> None:
        """Give free slots to the items that wait for one."""
        while self._may_start() and (item := self._slots.next()):
            # Code that has not run before starts alone: it may create a thousand tasks.
            self._pacer.spend(self._tasks_created.get(item.code, TASKS_STARTED_PER_ITERATION_MAX))
            self._start(item)
        self._changed.notify()

    def _may_start(self) -> bool:
        return self._pacer.is_room and not (self._memory.is_full and self._slots.active)

    def admit_later(self) -> None:
        """Give free slots to waiting items, in a callback of the event loop."""
        try:
            self.admit()
        except Exception as error:  # noqa: BLE001 - the event loop would only log it; the worker must be restarted
            self._fail(error)

    def note_tasks(self, item: Item) -> None:
        """Note how many tasks the code of a function creates: the largest number, which smaller ones lower slowly."""
        if item.running:
            before = self._tasks_created.get(item.code, 0)
            self._tasks_created[item.code] = max(item.running.activity.take_created(), before - before // 8, 1)
