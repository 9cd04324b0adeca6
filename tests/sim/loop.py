"""An event loop with virtual time: it never waits, and it stops a program that does not end."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
PASSES_MAX = 20_000
_PASS_S = 0.0001


class Stuck(Exception):
    """A schedule does not end: it is deadlocked, or it exceeds the limit of passes."""


class _Selector:
    """Has no files to select, and advances the time of the loop instead of waiting."""

    def __init__(self, loop: "VirtualLoop") -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        """Return at once."""
        self._loop.advance(timeout)
        return []


class VirtualLoop(asyncio.BaseEventLoop):
    """The loop of one schedule. It is deterministic: the same program takes the same passes each time."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Selector(self)
        self._now_s = 0.0
        self._passes = 0
        self.set_exception_handler(lambda _loop, _context: None)

    def time(self) -> float:
        """Return the virtual time in seconds."""
        return self._now_s

    def advance(self, timeout: float | None) -> None:
        """Count a pass and advance the time by `timeout`; raise Stuck if no callback is scheduled at all."""
        self._passes += 1
        if timeout is None:
            raise Stuck("deadlock: every task waits, and no timer is set")
        if self._passes > PASSES_MAX:
            raise Stuck(f"the schedule is not idle after {PASSES_MAX:,} passes of the loop")
        self._now_s += max(timeout, _PASS_S)

    def _process_events(self, event_list: list[Any]) -> None:
        """Do nothing: there are no files, so there are no events."""

    def _write_to_self(self) -> None:
        """Do nothing: the loop is never blocked in a system call."""


def run(code: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine in a new virtual loop; raise Stuck when it does not end."""
    loop = VirtualLoop()
    try:
        return loop.run_until_complete(code)
    finally:
        _abandon(loop)


def _abandon(loop: VirtualLoop) -> None:
    """Cancel the remaining tasks, give them a limited time to end, and close the loop."""
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
