"""Threads for the plain bodies of steps: how many are in use, and a warning when bodies wait for one."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stepstream.contract.limits import BODY_THREADS_MAX
from stepstream.sdk.threads.in_thread import in_thread

logger = logging.getLogger(__name__)
_NAMED_MAX = 5


class _Body:
    """A body that waits for a thread, or that has one since `started` (s)."""

    __slots__ = ("name", "started")

    def __init__(self, name: str) -> None:
        self.name = name
        self.started: float | None = None


class BodyThreads:
    """At most `most` threads. When a body has waited for one for `warn_s` seconds, those that run are logged.

    Python cannot end a thread: a body keeps its thread after its `timeout=`, and after its run has ended.
    """

    def __init__(self, most: int = BODY_THREADS_MAX, warn_s: float = 10.0) -> None:
        self.most = most
        self._pool = ThreadPoolExecutor(most, "stepstream-body")
        self._bodies: dict[_Body, None] = {}
        self._warn_s = warn_s
        self._timer: asyncio.TimerHandle | None = None

    @property
    def in_use(self) -> int:
        """Return how many threads run a body, including those that nothing waits for any longer."""
        return sum(body.started is not None for body in list(self._bodies))

    @property
    def waiting(self) -> int:
        """Return how many bodies wait for a thread."""
        return len(self._bodies) - self.in_use

    async def run(self, function: Callable[[], Any], name: str) -> Any:
        """Run a body in a thread; `name` is its step."""
        body = _Body(name)

        def call() -> Any:
            body.started = time.monotonic()
            try:
                return function()
            finally:
                self._bodies.pop(body, None)

        self._bodies[body] = None
        if len(self._bodies) > self.most and self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._warn_s, self._warn)
        try:
            return await in_thread(self._pool, call)
        finally:
            if body.started is None:
                self._bodies.pop(body, None)

    def _warn(self) -> None:
        self._timer = None
        waiting = self.waiting
        if not waiting:
            return
        self._timer = asyncio.get_running_loop().call_later(6 * self._warn_s, self._warn)
        now = time.monotonic()
        running = sorted((body.started, body.name) for body in list(self._bodies) if body.started is not None)
        counts = Counter(name for _, name in running)
        since = {name: now - started for started, name in reversed(running)}
        named = [f"step {name}: {counts[name]}, the longest for {since[name]:.0f} s" for name in since]
        more = f"; and {len(named) - _NAMED_MAX} other steps" if len(named) > _NAMED_MAX else ""
        words = (
            "all %d threads for plain step bodies are in use, and %d bodies wait for one (%s%s); a body that hangs "
            "keeps its thread even after its timeout=: limit the time of its calls, or raise STEPSTREAM_BODY_THREADS"
        )
        logger.warning(words, self.most, waiting, "; ".join(named[::-1][:_NAMED_MAX]), more)

    def close(self) -> None:
        """Start nothing more; running threads end by themselves."""
        if self._timer is not None:
            self._timer.cancel()
        self._pool.shutdown(wait=False, cancel_futures=True)
