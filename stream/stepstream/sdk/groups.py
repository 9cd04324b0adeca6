"""The groups of a run's steps: those that are waited for as a whole, so that only the last result lets code go on."""

import asyncio
from collections.abc import Iterable, Sequence, Set
from typing import Any

from stepstream.contract.ids import StepHash
from stepstream.sdk.calls import Call

# That of the gather or the TaskGroup, and that of the run itself.
_CALLBACKS_OF_MEMBER = 2


class Groups:
    """Gives groups their names, which are those of one run under one epoch."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._count = 0

    def new(self) -> str:
        """Return a name for a set of steps that is waited for as a whole."""
        self._count += 1
        return f"{self._epoch}.{self._count}"

    def name(self, calls: Sequence[Call], tasks: Set[asyncio.Task[Any]]) -> None:
        """Put the steps that one gather or TaskGroup waits for together into a group, unless they have one."""
        names: dict[int, str] = {}
        waiting = _by_waiter(tasks)
        for call in calls:
            waiter = None if call.group else _shared_waiter(waiting.get(id(call.waiting)))
            if waiter is not None:
                call.group = names.get(id(waiter)) or names.setdefault(id(waiter), self.new())

    def leave(self, calls: Iterable[Call], tasks: Set[asyncio.Task[Any]]) -> list[StepHash]:
        """Take those out of their group for which the code, which rests, waits by themselves now; return them."""
        grouped = [call for call in calls if call.group and call.waiting and not self._is_member(call)]
        waiting = _by_waiter(tasks) if grouped else {}
        left: list[StepHash] = []
        for call in grouped:
            task = waiting.get(id(call.waiting))
            if task is not None and _shared_waiter(task) is not None:
                call.member = task
            else:
                call.group = ""
                left.append(call.step)
        return left

    @staticmethod
    def _is_member(call: Call) -> bool:
        """Tell whether nobody has come to wait for a step that was found to be a member before; it is asked often."""
        return call.member is not None and len(getattr(call.member, "_callbacks", None) or ()) == _CALLBACKS_OF_MEMBER


def _by_waiter(tasks: Set[asyncio.Task[Any]]) -> dict[int, asyncio.Task[Any]]:
    return {id(waiter): task for task in tasks if (waiter := getattr(task, "_fut_waiter", None)) is not None}


def _shared_waiter(task: asyncio.Task[Any] | None) -> object | None:
    """Return what waits for a set of tasks of which `task` is a member, or None.

    That is the gather or the TaskGroup, when the task is a step and nothing else, and nobody else waits for the task:
    its result alone lets no code go on.
    """
    if task is None or not getattr(task.get_coro(), "is_step", False):
        return None
    callbacks = [callback for callback, _ in getattr(task, "_callbacks", None) or ()]
    shared = [callback for callback in callbacks if _is_shared(callback)]
    alone = len(shared) == 1 and len(callbacks) == _CALLBACKS_OF_MEMBER
    return getattr(shared[0], "__self__", shared[0]) if alone else None


def _is_shared(callback: Any) -> bool:
    name = getattr(callback, "__qualname__", "")
    return name in ("gather.<locals>._done_callback", "TaskGroup._on_task_done")
