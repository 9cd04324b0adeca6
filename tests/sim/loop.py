"""An event loop without a wall clock: waiting moves its own time on, and a program that never rests is stopped."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
PASSES_MAX = 60_000
_PASS_S = 0.0001


class Stuck(Exception):
    """A schedule does not come to rest, or nothing can happen any more."""


class _Selector:
    """Selects nothing: there are no files, and to wait is to move the loop's time on."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        """Return at once."""
        self._loop.move_on(timeout)
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """A loop for one schedule: the same program takes the same passes each time."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Selector(self)
        self._now_s = 0.0
        self._passes = 0
        self.set_exception_handler(lambda _loop, _context: None)

    def time(self) -> float:
        """Return the loop's own time in seconds."""
        return self._now_s

    def move_on(self, timeout: float | None) -> None:
        """Let time pass; raise Stuck when nothing is left to wait for, or when there were too many passes."""
        self._passes += 1
        if timeout is None:
            raise Stuck("nothing can happen any more")
        if self._passes > PASSES_MAX:
            raise Stuck(f"no rest after {PASSES_MAX:,} passes of the loop")
        self._now_s += max(timeout, _PASS_S)

    def _process_events(self, event_list: list[Any]) -> None:
        """Do nothing: there are no events."""

    def _write_to_self(self) -> None:
        """Do nothing: nobody sleeps in a system call."""


def run(code: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a virtual loop of its own; raise Stuck when it does not come to an end."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(code)
    finally:
        _abandon(loop)


def _abandon(loop: VirtualLoop) -> None:
    """Cancel what is left, with a bound of its own, and close."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    try:
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=1.0))
        loop.run_until_complete(loop.shutdown_asyncgens())
    except Stuck:
        pass
    finally:
        loop.close()
