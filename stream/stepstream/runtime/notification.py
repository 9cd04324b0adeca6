"""A bell: waiters sleep until somebody rings; a ring with nobody waiting is remembered."""

import asyncio
import contextlib
from collections.abc import Callable


class Notification:
    """Wakes whoever waits. One event loop; a ring is kept until the next wait consumes it."""

    __slots__ = ("_rung", "_waiters")

    def __init__(self) -> None:
        self._rung = False
        self._waiters: list[asyncio.Future[None]] = []

    def notify(self) -> None:
        """Wake all who wait, or the next who will."""
        if not self._waiters:
            self._rung = True
            return
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    @property
    def waited_for(self) -> bool:
        """Tell whether somebody sleeps."""
        return bool(self._waiters)

    async def wait(self, timeout_s: float | None = None) -> None:
        """Return when the bell rings, or when `timeout_s` seconds are over."""
        if self._rung:
            self._rung = False
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
        """Return whether something holds, once it does or `timeout_s` seconds are over; each ring asks anew."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not holds():
                    await self.wait()
        return holds()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
