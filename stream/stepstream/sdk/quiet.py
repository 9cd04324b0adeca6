"""Telling whether a task can do nothing until a step gives its result."""

import asyncio
import functools
import sys
from asyncio import locks, queues, taskgroups, tasks, timeouts
from collections.abc import Mapping, Set
from types import CodeType
from typing import Any

# So long code may wait for who knows what beside its open steps and count as at work; then it gives its slot up.
PATIENCE_S = 5.0
# So long what it waits for is not made anew by another worker; then its open steps alone are to wake it.
HOLD_S = 600.0
_LOOK_S_MIN, _LOOK_S_MAX = 0.05, 1.0
LOOK_LATER_S = 0.05


class Patience:
    """How long code that waits for something of its own is given: a socket may be behind it, or another of its tasks.

    It is looked after now and then, ever more seldom.
    """

    __slots__ = ("_look_s", "_since")

    def __init__(self) -> None:
        self._since: float | None = None
        self._look_s = _LOOK_S_MIN

    def renew(self) -> None:
        """Begin anew: the code has moved."""
        self._since = None
        self._look_s = _LOOK_S_MIN

    def is_over(self, now_s: float) -> bool:
        """Tell whether the code has not moved for PATIENCE_S; `now_s` is the event loop's time."""
        return self._waited_s(now_s) >= PATIENCE_S

    def is_spent(self, now_s: float) -> bool:
        """Tell whether the code has not moved for HOLD_S."""
        return self._waited_s(now_s) >= HOLD_S

    def _waited_s(self, now_s: float) -> float:
        if self._since is None:
            self._since = now_s
        return now_s - self._since

    def next_look_s(self) -> float:
        """Return the seconds until the next look."""
        look_s, self._look_s = self._look_s, min(2 * self._look_s, _LOOK_S_MAX)
        return look_s


@functools.cache
def _anyio_codes() -> set[CodeType]:
    return _codes(sys.modules["anyio._backends._asyncio"].TaskGroup.__aexit__)


def _of_anyio() -> set[CodeType]:
    return _anyio_codes() if "anyio._backends._asyncio" in sys.modules else set()


class StepFuture(asyncio.Future[Any]):
    """What a step's caller waits for."""


def _codes(*functions: Any) -> set[CodeType]:
    return {function.__code__ for function in functions if function is not None}


_WAIT = _codes(getattr(tasks, "_wait", None))
# These wait for tasks that the code made.
_OWN = _codes(
    taskgroups.TaskGroup.__aexit__,
    getattr(taskgroups.TaskGroup, "_aexit", None),
    timeouts.Timeout.__aexit__,
)
# These wait for other tasks of this process, not for the world outside; they may be those of other runs.
_SHARED = _codes(
    locks.Lock.acquire,
    locks.Event.wait,
    locks.Condition.wait,
    locks.Semaphore.acquire,
    locks.Barrier.wait,
    getattr(locks.Barrier, "_wait", None),
    getattr(locks.Barrier, "_block", None),
    queues.Queue.get,
    queues.Queue.put,
    queues.Queue.join,
)


def is_blocked(
    task: asyncio.Task[Any], siblings: Set[asyncio.Task[Any]], *, bare: bool = False, shared: bool = True
) -> bool:
    """Tell whether `task` cannot go on by itself.

    With `bare` any future that is not done blocks. Without, only those count that a step or a sibling resolves, and
    with `shared` the locks, events and queues that any task of the process may: an await on a socket, a timer or a
    thread is work in progress.
    """
    if task.done():
        return True
    waiter = getattr(task, "_fut_waiter", None)
    if waiter is None or waiter.done():
        return False
    if bare or isinstance(waiter, StepFuture):
        return True
    code = _innermost(task)
    kind = getattr(code, "cr_code", None)
    if kind in _WAIT:
        return _waits_inside(code.cr_frame.f_locals, siblings)
    return _is_inner(waiter, siblings) or kind in (_OWN | _of_anyio()) or (shared and kind in _SHARED)


def _waits_inside(wait: Mapping[str, Any], siblings: Set[asyncio.Task[Any]]) -> bool:
    """Tell whether asyncio.wait, of which `wait` are the variables, waits for steps and siblings alone."""
    if wait.get("timeout_handle") is not None:
        return False
    return all(future.done() or _is_inner(future, siblings) for future in wait.get("fs", ()))


def _is_inner(waiter: Any, siblings: Set[asyncio.Task[Any]]) -> bool:
    if isinstance(waiter, StepFuture) or waiter in siblings:
        return True
    children = getattr(waiter, "_children", None)
    if children is not None:
        return all(child.done() or _is_inner(child, siblings) for child in children)
    return any(_sets(callback, waiter) for task in siblings for callback, _ in getattr(task, "_callbacks", None) or ())


def _sets(callback: Any, waiter: Any) -> bool:
    """Tell whether a callback, as that of asyncio.shield, is there to set `waiter`."""
    cells = getattr(callback, "__closure__", None) or ()
    return any(cell.cell_contents is waiter for cell in cells)


def _innermost(task: asyncio.Task[Any]) -> Any:
    code: Any = task.get_coro()
    while (inner := getattr(code, "cr_await", None)) is not None and hasattr(inner, "cr_code"):
        code = inner
    return code
