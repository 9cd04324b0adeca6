"""The tasks of a run's code: they record what they wait for and what waits for them."""

import asyncio
import contextvars
import itertools
import sys
import threading
import zlib
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from types import FrameType
from typing import Any

from stepstream.contract.model_usage import ModelUsage
from stepstream.sdk.heartbeats import Heartbeats
from stepstream.sdk.replay.idle import Activity
from stepstream.sdk.replay.messages import Execution

_RUN_HASH_BITS = 24
_CALLERS = ("asyncio.", __name__)


class ExitInTask(Exception):
    """A task of a run's code raised SystemExit or KeyboardInterrupt, which would have ended the process."""


class Unordered:
    """Tasks that were created from coroutines in no fixed order, with the step ids that each of them has used."""

    def __init__(self) -> None:
        self._users: dict[str, object] = {}

    def is_shared(self, step_id: str, member: object) -> bool:
        """Note that a member uses a step id, and return whether another member has used it before."""
        return self._users.setdefault(step_id, member) is not member


class Scope:
    """What the tasks of one run share.

    `numbers` count the tasks and steps in the order in which the code creates them. They are also their hashes, so
    that a set of them is iterated in the same order in every replay. `chain` runs precede the run in a chain of runs
    that started one another.
    """

    def __init__(self, run_id: str, activity: Activity, chain: int = 0) -> None:
        self.activity = activity
        self.chain = chain
        self.numbers = itertools.count(zlib.crc32(run_id.encode()) << _RUN_HASH_BITS)
        self._unordered = (-1, Unordered())

    def membership(self, number: int) -> tuple[Unordered, object] | None:
        """Return the unordered tasks that the task of this number belongs to, and which of them it belongs to."""
        if _is_created_by_as_completed():
            last, group = self._unordered
            # as_completed creates its tasks one after the other, and each of them creates something before the next.
            group = group if number == last + 1 else Unordered()
            self._unordered = (number, group)
            return group, object()
        parent = run_task()
        return parent.membership if parent is not None else None


async def sleep_in_real_time(_body: object, length_ms: int) -> None:
    """Sleep as bodies do where time is that of the wall clock."""
    await asyncio.sleep(length_ms / 1_000)


@dataclass(slots=True)
class Body:
    """The body of a step that is running: its heartbeats, what it published, and what it used of limits and of models.

    `step` is the id of the step, and `hash` that of this use of the id. `attempt` counts from 0. `sleep` takes this
    object and a time in milliseconds, by the clock of the engine. Most bodies send no heartbeat, so the object for them
    is made at its first use, which may be in a thread, and even when the attempt is over.
    """

    step: str
    make_heartbeats: Callable[[], Heartbeats]
    hash: str = ""
    attempt: int = 0
    sleep: Callable[[object, int], Awaitable[None]] = sleep_in_real_time
    used: int | None = None
    usage: ModelUsage | None = None
    execution: Execution | None = None
    _made: Heartbeats | None = None
    _is_over: bool = False

    @property
    def heartbeats(self) -> Heartbeats:
        """The heartbeats of the attempt."""
        with _MAKING:
            made = self._made = self._made or self.make_heartbeats()
        if self._is_over:
            made.end()
        return made

    def end(self) -> Heartbeats | None:
        """The attempt is over: end its heartbeats; return them if there are any."""
        self._is_over = True
        if self._made:
            self._made.end()
        return self._made


# Threads of one body use one object for its heartbeats.
_MAKING = threading.Lock()


current_scope: contextvars.ContextVar[Scope | None] = contextvars.ContextVar("stepstream_scope", default=None)
current_body: contextvars.ContextVar[Body | None] = contextvars.ContextVar("stepstream_body", default=None)


class _Contained(Coroutine[Any, Any, Any]):
    """A coroutine whose process exits become errors: asyncio lets them end the event loop."""

    def __init__(self, code: Any) -> None:
        self.code = code

    def send(self, value: Any) -> Any:
        try:
            return self.code.send(value)
        except (SystemExit, KeyboardInterrupt) as error:
            raise _as_error(error) from error

    def throw(self, *args: Any) -> Any:
        try:
            return self.code.throw(*args)
        except (SystemExit, KeyboardInterrupt) as error:
            raise _as_error(error) from error

    def close(self) -> None:
        self.code.close()

    def __await__(self) -> Any:
        return self.code.__await__()

    @property
    def cr_await(self) -> Any:
        """What this awaits; coroutines have the same attribute."""
        return self.code

    @property
    def cr_code(self) -> Any:
        """The code object behind this; coroutines have the same attribute."""
        return getattr(self.code, "cr_code", None)


def _as_error(error: BaseException) -> ExitInTask:
    return ExitInTask(f"{type(error).__name__}({error}) was raised in a task; end a run by return or by an error")


class _Recorded(_Contained):
    """The coroutine of a run's task: it records the future that its code yields."""

    def __init__(self, code: Any, activity: Activity) -> None:
        super().__init__(code)
        self.waits_for: Any = None
        self.outside = False
        self.task: RunTask | None = None
        self._activity = activity
        self._send = code.send

    def send(self, value: Any) -> Any:
        if self.waits_for is not None:
            self.waits_for = None
            if not self.outside:
                self._activity.unblocked(self)
        try:
            self.waits_for = waits_for = self._send(value)
        except BaseException as error:
            self._end(error)
            raise
        if waits_for is not None and not self.outside:
            self._activity.blocked(self)
        return waits_for

    def throw(self, *args: Any) -> Any:
        if self.waits_for is not None:
            self.waits_for = None
            if not self.outside:
                self._activity.unblocked(self)
        try:
            self.waits_for = waits_for = self.code.throw(*args)
        except BaseException as error:
            self._end(error)
            raise
        if waits_for is not None and not self.outside:
            self._activity.blocked(self)
        return waits_for

    def _end(self, error: BaseException) -> None:
        task, self.task = self.task, None
        if task is not None:
            self._activity.ended(task)
            task.release()
            if not isinstance(error, StopIteration | asyncio.CancelledError):
                self._activity.failed.add(task)
        if isinstance(error, SystemExit | KeyboardInterrupt):
            raise _as_error(error) from error


class RunTask(asyncio.Task[Any]):
    """A task of a run's code. `waiters` are the callbacks of what waits for it; `watch` is called when they change."""

    def __init__(
        self,
        code: Any,
        scope: Scope,
        *,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context | None,
        **options: Any,
    ) -> None:
        if not asyncio.iscoroutine(code):
            raise TypeError(f"a coroutine was expected, got {code!r}")
        self.waiters: list[Callable[..., Any]] = []
        self.watch: Callable[[], None] | None = None
        self.is_step = getattr(code, "is_step", False)
        self.recorded = recorded = _Recorded(code, scope.activity)
        self._number = next(scope.numbers)
        self.membership = None if self.is_step else scope.membership(self._number)
        recorded.task = self
        scope.activity.add(self)
        super().__init__(recorded, loop=loop, context=context, **options)

    def __hash__(self) -> int:
        return self._number

    def add_done_callback(self, callback: Callable[..., Any], /, *, context: contextvars.Context | None = None) -> None:
        """Add a callback, as tasks do."""
        super().add_done_callback(callback, context=context)
        self.waiters.append(callback)
        if self.watch is not None:
            self.watch()

    def remove_done_callback(self, callback: Callable[..., Any], /) -> int:
        """Remove a callback, as tasks do."""
        self.waiters = [each for each in self.waiters if each != callback]
        if self.watch is not None:
            self.watch()
        return super().remove_done_callback(callback)

    def release(self) -> None:
        """Drop what refers to this task, which has ended: its result would stay until Python looks for cycles."""
        self.waiters = []
        self.watch = None


def _is_created_by_as_completed() -> bool:
    """Return whether asyncio.as_completed creates a task now: it iterates over a set of the coroutines."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(_CALLERS):
        if frame.f_code.co_qualname in ("as_completed", "_AsCompletedIterator.__init__"):
            return True
        frame = frame.f_back
    return False


def run_task() -> RunTask | None:
    """Return the current task if it belongs to a run's code."""
    task = asyncio.current_task()
    return task if isinstance(task, RunTask) else None


class InThread:
    """A part of the current task in which a thread runs code of the run in its place."""

    __slots__ = ("_activity", "_recorded")

    def __init__(self, activity: Activity) -> None:
        task = run_task()
        if task is None:
            raise RuntimeError("only a task of a run may start a thread of that run")
        self._activity = activity
        self._recorded = task.recorded

    def __enter__(self) -> None:
        self._recorded.outside = True  # The task still counts as active: it stands for the thread.
        self._activity.threads += 1

    def __exit__(self, *_: object) -> None:
        self._recorded.outside = False
        self._activity.threads -= 1


class ThreadBlocked:
    """A part of the current task for which a thread of the run waits."""

    __slots__ = ("_activity",)

    def __init__(self, activity: Activity) -> None:
        self._activity = activity

    def __enter__(self) -> None:
        self._activity.deactivate()

    def __exit__(self, *_: object) -> None:
        self._activity.activate()


def task_factory(
    loop: asyncio.AbstractEventLoop, code: Any, context: contextvars.Context | None = None, **options: Any
) -> asyncio.Task[Any]:
    """Make tasks as asyncio does, and those that a run's code creates as RunTasks."""
    scope = context.get(current_scope) if context is not None else current_scope.get()
    if scope is None or scope.activity.closed:
        return asyncio.Task(code, loop=loop, context=context, **options)
    body = context.get(current_body) if context is not None else current_body.get()
    if body:
        return asyncio.Task(_Contained(code), loop=loop, context=context, **options)
    return RunTask(code, scope, loop=loop, context=context, **options)
