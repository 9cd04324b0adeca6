"""Pacing: little starts in one iteration of the event loop, so that heartbeats and requests run in between."""

import asyncio
import contextvars
from collections import deque
from collections.abc import Callable


class Pacer:
    """Limits the cost of what is started in one iteration of the event loop.

    What is started runs in the next iteration, together with everything else that was. While there `is_room`, one more
    may start and `spend` its cost, which may exceed what is left. In the next iteration `resume` is called, to start
    more.
    """

    def __init__(self, per_iteration: int, resume: Callable[[], object]) -> None:
        self._per_iteration = per_iteration
        self._resume = resume
        self._left = per_iteration
        self._scheduled = False
        # What is called later is no part of the run whose code is running now.
        self._context = contextvars.copy_context()

    @property
    def is_room(self) -> bool:
        """Return whether something may start in this iteration."""
        return self._left > 0

    @property
    def is_spent(self) -> bool:
        """Return whether something was started that has not run yet: it does so in the next iteration."""
        return self._scheduled

    def spend(self, cost: int) -> None:
        """Count the cost of something that starts in this iteration."""
        self._left -= cost
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._continue, context=self._context)

    def _continue(self) -> None:
        self._scheduled = False
        self._left = self._per_iteration
        self._resume()


class PacedCalls:
    """Calls functions in the order in which they are passed, a bounded number in each iteration of the event loop."""

    def __init__(self, per_iteration: int) -> None:
        self._waiting: deque[tuple[Callable[[], object], int]] = deque()
        self._pacer = Pacer(per_iteration, self._call_waiting)

    @property
    def is_starting(self) -> bool:
        """Return whether a function waits to be called, or was called just now."""
        return bool(self._waiting) or self._pacer.is_spent

    def call(self, function: Callable[[], object], cost: int = 1) -> None:
        """Call a function now, or in one of the next iterations; `cost` is how many others it counts as."""
        self._waiting.append((function, cost))
        self._call_waiting()

    async def wait(self, cost: int) -> None:
        """Return when something of this cost may start."""
        permit: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def start() -> None:
            if not permit.done():
                permit.set_result(None)

        self.call(start, cost)
        await permit

    def _call_waiting(self) -> None:
        while self._waiting and self._pacer.is_room:
            function, cost = self._waiting.popleft()
            self._pacer.spend(cost)
            function()
