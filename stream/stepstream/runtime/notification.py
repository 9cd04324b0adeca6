"""A condition that tasks of one event loop wait for; a notification without a waiter is kept for the next one."""

import asyncio
import contextlib
from collections.abc import Callable


class Notification:
    """Wakes the tasks that wait for it. The next wait consumes a notification that came while no task waited."""

    __slots__ = ("_notified", "_waiters")

    def __init__(self) -> None:
        self._notified = False
        self._waiters: list[asyncio.Future[None]] = []

    def notify(self) -> None:
        """Wake all waiting tasks, or the next one to wait if there are none."""
        if not self._waiters:
            self._notified = True
            return
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    def take(self) -> bool:
        """Return whether a notification came while no task waited; the next wait does not return for it."""
        notified, self._notified = self._notified, False
        return notified

    @property
    def waited_for(self) -> bool:
        """Whether a task waits."""
        return bool(self._waiters)

    async def wait(self, timeout_s: float | None = None) -> None:
        """Return when notified, or after `timeout_s` seconds."""
        if self.take():
            return
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._waiters.append(waiter)
        timer = loop.call_later(timeout_s, _wake, waiter) if timeout_s is not None else None
        try:
            await waiter
        finally:
            if timer is not None:
                timer.cancel()
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    async def until(self, holds: Callable[[], bool], timeout_s: float | None = None) -> bool:
        """Check a condition now and after each notification; return whether it held within `timeout_s` seconds."""
        if holds():
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not holds():
                    await self.wait()
        return holds()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
