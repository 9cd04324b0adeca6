"""The groups of a run's steps: steps that the code awaits as a whole, so that only the last result resumes it."""

from collections.abc import Callable, Sequence
from typing import Any

from stepstream.sdk.replay.calls import Call
from stepstream.sdk.replay.tasks import RunTask


class Groups:
    """Names the groups of one run under one epoch, and finds the steps that leave theirs."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch
        self._count = 0
        self._changed: dict[Call, None] = {}

    def new(self) -> str:
        """Return a name for a set of steps that is awaited as a whole."""
        self._count += 1
        return f"{self._epoch}.{self._count}"

    def assign(self, calls: Sequence[Call]) -> None:
        """Put the new steps that one gather or TaskGroup awaits together into a group, unless they have one."""
        names: dict[int, str] = {}
        for call in calls:
            waiter = None if call.group else _sole_waiter(call.task)
            if waiter is not None:
                call.group = names.get(id(waiter)) or names.setdefault(id(waiter), self.new())
            if call.group:
                self.watch(call)

    def watch(self, call: Call) -> None:
        """Check the group of a call, now and whenever what waits for its task changes."""
        self._changed[call] = None
        if isinstance(call.task, RunTask) and call.task.is_step:
            call.task.watch = lambda: self._changed.__setitem__(call, None)

    def forget(self, call: Call) -> None:
        """Check a call no longer: the code has its result, or does not await it."""
        self._changed.pop(call, None)

    def leavers(self) -> list[Call]:
        """Remove the open steps that the idle code now awaits alone from their groups; return them."""
        if not self._changed:
            return []
        changed, self._changed = self._changed, {}
        left = [call for call in changed if call.open and call.group and _sole_waiter(call.task) is None]
        for call in left:
            call.group = ""
        return left


def _sole_waiter(task: object) -> object | None:
    """Return the gather or the TaskGroup that alone waits for a task, or None: its result alone resumes no code."""
    if not isinstance(task, RunTask) or not task.is_step or len(task.waiters) != 1:
        return None
    waiter = task.waiters[0]
    return getattr(waiter, "__self__", waiter) if _is_shared(waiter) else None


def _is_shared(callback: Callable[..., Any]) -> bool:
    """Return whether a callback is that of a gather or a TaskGroup, by its name in CPython 3.11 to 3.13."""
    name = getattr(callback, "__qualname__", "")
    return name in ("gather.<locals>._done_callback", "TaskGroup._on_task_done")
