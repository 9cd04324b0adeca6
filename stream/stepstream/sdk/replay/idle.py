"""Idle detection: whether a run's code can continue by itself, and if not, what it waits for.

asyncio has no public way to ask what a task waits for. So the tasks of a run record the future that their code yields
(see tasks.py), and for futures other than steps this module reads private parts of asyncio: the children of a gather,
the variables of asyncio.wait, the closure of a callback, and the code objects of its locks and queues. These parts are
the same in CPython 3.11 to 3.13; tests/sdk/test_idle.py holds a case for each. A future that is not recognized counts
as external work, which costs memory but loses nothing.
"""

import asyncio
import contextvars
import functools
import sys
import weakref
from asyncio import locks, queues, taskgroups, tasks, timeouts
from collections.abc import Callable, Collection, Iterator, Mapping, Set
from contextlib import contextmanager
from enum import Enum, auto
from types import CodeType
from typing import Any, Protocol

from stepstream.sdk.replay.calls import StepFuture

# After this time, code that waits on external work beside an open step is detached: it releases its slot.
DETACH_AFTER_S = 5.0
# After this time, it is suspended: if its worker ends, only the open step resumes the run.
SUSPEND_AFTER_S = 600.0
_LOOK_S_MIN, _LOOK_S_MAX = 0.05, 1.0

# When the task of a step has ended, its result needs two iterations of the event loop to pass through a gather or a
# TaskGroup to the code that awaits it. Meanwhile all tasks seem to be blocked. A nested gather needs one more.
_IDLE_ITERATIONS = 1
# For this many more iterations, code is not idle if what it waited for has ended.
_CONTINUE_ITERATIONS_MAX = 4


class Wait(Enum):
    """What a task waits for."""

    ENDED = auto()  # Something that has ended: the task is about to continue.
    INTERNAL = auto()  # Steps, or other tasks of the run.
    SHARED = auto()  # A lock, an event or a queue of asyncio, which may be those of another run.
    EXTERNAL = auto()  # Anything else.


class Waiting(Protocol):
    """The code of a task, and the future that it waits for."""

    outside: bool
    waits_for: Any

    @property
    def cr_await(self) -> Any:
        """What the code awaits; coroutines have the same attribute."""


class Activity:
    """The tasks and threads of one run's code. It calls `on_idle` when none of them can continue by itself.

    `active` counts those that run or can run. A task that is `outside`, in the body of a step, is not counted. The
    activity is `closed` when the code has ended, or was `aborted`. `failed` are the tasks that raised, while anything
    refers to them.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, on_idle: Callable[[], None]) -> None:
        self.tasks: set[asyncio.Task[Any]] = set()
        self.failed: weakref.WeakSet[asyncio.Task[Any]] = weakref.WeakSet()
        self.threads = 0
        self._created = 0
        self.active = 0
        self.closed = False
        self.aborted = False
        self._loop = loop
        self._on_idle = on_idle
        self._context = contextvars.copy_context()  # What is done for a run is no part of its code.
        # Tasks that were not examined yet, and tasks that were found to wait for a lock, an event or a queue.
        self._unknown: dict[Waiting, None] = {}
        self._on_shared: dict[Waiting, None] = {}
        self._idle_since: float | None = None
        self._idle_iterations = 0
        self._idle_iterations_min = _IDLE_ITERATIONS
        self._looking = False

    @property
    def is_sequential(self) -> bool:
        """Return whether the code is one task, or one thread, alone."""
        return (self.threads or len(self.tasks)) == 1

    @property
    def is_busy(self) -> bool:
        """Whether a task outside of the bodies of steps can continue by itself, or may be given a result soon."""
        return self.active > 0 or self._looking

    def add(self, task: "asyncio.Task[Any]") -> None:
        """Count a task that the code has created."""
        self.tasks.add(task)
        self._created += 1
        self.activate()

    def take_created(self) -> int:
        """Return how many tasks the code has created since the last call."""
        created, self._created = self._created, 0
        return created

    # What the tasks of the run report.

    def blocked(self, code: Waiting) -> None:
        """A task has yielded a future."""
        if not isinstance(code.waits_for, StepFuture):
            self._unknown[code] = None
            self._allow_iterations(_depth(code.waits_for))
        self.active -= 1
        if self.active == 0:
            self.look()

    def unblocked(self, code: Waiting) -> None:
        """A task continues."""
        self._unknown.pop(code, None)
        self._on_shared.pop(code, None)
        self.activate()

    def ended(self, task: "asyncio.Task[Any]") -> None:
        """A task has ended."""
        self.tasks.discard(task)
        self.deactivate()

    def retrieve_exceptions(self) -> None:
        """Keep asyncio from logging what the code's other tasks raise: nothing awaits them any longer.

        The run has an error already, or its code was stopped and raises again when it is replayed. Where the code
        returned, asyncio logs the exception of a task that it forgot to await.
        """
        for task in self.tasks | set(self.failed):
            if task.done():
                retrieve_exception(task)
            else:
                asyncio.Task.add_done_callback(task, retrieve_exception)

    def activate(self) -> None:
        """Count one more task or thread that can continue by itself."""
        self.active += 1
        self._idle_iterations = 0
        self._idle_since = None

    def deactivate(self) -> None:
        """Count one task or thread less."""
        self.active -= 1
        if self.active == 0:
            self.look()

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Keep the run from being idle while a thread of it that was stopped ends."""
        self.activate()
        try:
            yield
        finally:
            self.deactivate()

    def leave(self, code: Waiting) -> None:
        """The current task enters the body of a step, outside of the run's code."""
        code.outside = True
        self.active -= 1
        # If the code is sequential, there is no other task to examine.
        if self.active == 0 and not self.is_sequential:
            self.look()

    def enter(self, code: Waiting) -> None:
        """The current task is back in the run's code."""
        code.outside = False
        self.activate()

    def close(self, *, aborted: bool = False) -> None:
        """The code has ended, or is aborted: it is no longer idle."""
        self.closed, self.aborted = True, aborted
        self._on_idle = _ignore

    # When the run is idle.

    def look(self, *, at_once: bool = False) -> None:
        """Look soon whether the run is idle; `at_once` where no future but a step's is between its tasks."""
        if at_once:
            self._idle_iterations = self._idle_iterations_min
        if not self._looking and not self.closed:
            self._looking = True
            self._loop.call_soon(self._look, context=self._context)

    def _look(self) -> None:
        self._looking = False
        if self.closed or self.active:
            return
        if self._idle_iterations < self._idle_iterations_min:
            self._idle_iterations += 1
            self.look()
        else:
            self._on_idle()

    def look_once_more(self) -> bool:
        """Look again, a few times at most, because a task is about to continue; return whether another look follows.

        The task continues within a few iterations of the event loop.
        """
        if self._idle_iterations >= self._idle_iterations_min + _CONTINUE_ITERATIONS_MAX:
            return False
        self._idle_iterations += 1
        self.look()
        return True

    def idle_s(self) -> float:
        """Return for how many seconds the run has been idle."""
        now_s = self._loop.time()
        if self._idle_since is None:
            self._idle_since = now_s
        return now_s - self._idle_since

    def _allow_iterations(self, depth: int) -> None:
        self._idle_iterations_min = max(self._idle_iterations_min, _IDLE_ITERATIONS + depth)

    def look_later(self) -> None:
        """Look again, ever more seldom: nothing signals that one of several external futures is done."""
        self._loop.call_later(min(max(self.idle_s(), _LOOK_S_MIN), _LOOK_S_MAX), self.look, context=self._context)

    def call_outside(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a function outside of the context of the run's code."""
        self._context.copy().run(function, *arguments)

    def waits(self) -> Set[Wait]:
        """Return what tasks wait for, apart from what is INTERNAL; EXTERNAL alone if any waits for external work."""
        found: set[Wait] = set()
        for code in list(self._unknown):
            wait = _classify(code, self.tasks)
            if wait is Wait.EXTERNAL:
                return {wait}
            if wait is Wait.ENDED:
                found.add(wait)
                continue
            del self._unknown[code]  # It stays so until the task continues.
            # The result of a gather that asyncio.wait waits for takes one iteration more.
            self._allow_iterations(1 + _depth_inside(_futures_of_wait(code)))
            if wait is Wait.SHARED:
                self._on_shared[code] = None
        if self._on_shared:
            found.add(Wait.SHARED)
        return found


def _ignore() -> None:
    pass


def retrieve_exception(task: "asyncio.Task[Any]") -> None:
    """Keep asyncio from logging an exception that the runner has been notified of."""
    if not task.cancelled():
        task.exception()


def _codes(*functions: Any) -> set[CodeType]:
    return {function.__code__ for function in functions if function is not None}


_WAIT = _codes(getattr(tasks, "_wait", None))
# These wait for tasks that the code has created.
_OWN = _codes(
    taskgroups.TaskGroup.__aexit__,
    getattr(taskgroups.TaskGroup, "_aexit", None),
    timeouts.Timeout.__aexit__,
)
# These wait for other tasks of this process, which may belong to other runs.
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


@functools.cache
def _anyio_codes() -> set[CodeType]:
    return _codes(sys.modules["anyio._backends._asyncio"].TaskGroup.__aexit__)


def _of_anyio() -> set[CodeType]:
    return _anyio_codes() if "anyio._backends._asyncio" in sys.modules else set()


def _classify(code: Waiting, siblings: Set["asyncio.Task[Any]"]) -> Wait:
    waits_for = code.waits_for
    if waits_for is None:
        return Wait.INTERNAL
    if _has_ended(waits_for):
        return Wait.ENDED
    innermost = _innermost(code)
    kind = _code_of(innermost)
    if kind in _WAIT:
        return Wait.INTERNAL if _waits_inside(innermost.cr_frame.f_locals, siblings) else Wait.EXTERNAL
    if _is_inner(waits_for, siblings) or kind in (_OWN | _of_anyio()):
        return Wait.INTERNAL
    return Wait.SHARED if kind in _SHARED else Wait.EXTERNAL


def _waits_inside(wait: Mapping[str, Any], siblings: Set["asyncio.Task[Any]"]) -> bool:
    """Return whether asyncio.wait, whose variables are `wait`, waits only for steps and siblings."""
    if wait.get("timeout_handle") is not None:
        return False
    return all(future.done() or _is_inner(future, siblings) for future in wait.get("fs", ()))


def _has_ended(future: Any) -> bool:
    """Return whether a future is done, or will be as soon as a gather has noticed that all its children are."""
    children = getattr(future, "_children", None)
    return bool(future.done() or (children and all(map(_has_ended, children))))


def _depth(future: Any) -> int:
    """Return how many gathers are around each other in a future, at least 1."""
    return 1 + _depth_inside(getattr(future, "_children", ()))


def _depth_inside(futures: Collection[Any]) -> int:
    return max((_depth(each) for each in futures if hasattr(each, "_children")), default=0)


def _futures_of_wait(code: Waiting) -> Collection[Any]:
    """Return what a task waits for by asyncio.wait, nothing if it waits in another way."""
    innermost = _innermost(code)
    found: Collection[Any] = innermost.cr_frame.f_locals["fs"] if _code_of(innermost) in _WAIT else ()
    return found


def _is_inner(future: Any, siblings: Set["asyncio.Task[Any]"]) -> bool:
    if isinstance(future, StepFuture) or future in siblings:
        return True
    children = getattr(future, "_children", None)
    if children is not None:
        return all(child.done() or _is_inner(child, siblings) for child in children)
    return any(_sets(callback, future) for task in siblings for callback in getattr(task, "waiters", ()))


def _sets(callback: Any, future: Any) -> bool:
    """Return whether a callback, such as that of asyncio.shield, resolves `future`."""
    cells = getattr(callback, "__closure__", None) or ()
    return any(cell.cell_contents is future for cell in cells)


def _code_of(code: Any) -> CodeType | None:
    return getattr(code, "cr_code", None)


def _innermost(code: Any) -> Any:
    while (inner := getattr(code, "cr_await", None)) is not None and hasattr(inner, "cr_code"):
        code = inner
    return code
