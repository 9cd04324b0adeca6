"""The clocks: the wall clock, which never goes back within a process, and a virtual one that tests advance."""

import logging
import time
from collections.abc import Callable

from stepstream.runtime.notification import Notification

logger = logging.getLogger(__name__)
_WAIT_S_MAX = 3_600.0
_NS_PER_MS = 1_000_000
# Steps of the wall clock below this are ordinary corrections and are not worth a line in the log.
_JUMP_MS_MIN = 1_000


def _elapsed_ns() -> int:
    """Return the time of a clock that is never set; if the system has one, it also counts while suspended."""
    return time.clock_gettime_ns(_ELAPSED_CLOCK) if _ELAPSED_CLOCK is not None else time.monotonic_ns()


_ELAPSED_CLOCK: int | None = getattr(time, "CLOCK_BOOTTIME", None)


class SystemClock:
    """The wall clock, except that it never goes back within a process.

    When the wall clock steps back, time continues at the pace of a clock that is never set, until the wall clock has
    caught up: a sleep of an hour still takes an hour. A step of a second or more, in either direction, is logged once
    with its size. `wall_ns` and `elapsed_ns` are the two sources, in nanoseconds.
    """

    def __init__(self, wall_ns: Callable[[], int] = time.time_ns, elapsed_ns: Callable[[], int] = _elapsed_ns) -> None:
        self._wall_ns = wall_ns
        self._elapsed_ns = elapsed_ns
        self._latest_ns = wall_ns()
        self._latest_elapsed_ns = elapsed_ns()
        self._ahead_ms = 0

    def now_ms(self) -> int:
        """Return the time in Unix milliseconds."""
        wall_ns, elapsed_ns = self._wall_ns(), self._elapsed_ns()
        expected_ns = self._latest_ns + max(elapsed_ns - self._latest_elapsed_ns, 0)
        self._latest_ns = max(wall_ns, expected_ns)
        self._latest_elapsed_ns = elapsed_ns
        self._report_jump((expected_ns - wall_ns) // _NS_PER_MS)
        return self._latest_ns // _NS_PER_MS

    def _report_jump(self, ahead_ms: int) -> None:
        """Log a step of the wall clock; `ahead_ms` is how far the expected time is ahead of it."""
        if ahead_ms - self._ahead_ms >= _JUMP_MS_MIN:
            logger.warning(
                "the system clock stepped back by %.1f s; time continues without it until it has caught up",
                (ahead_ms - self._ahead_ms) / 1_000,
            )
        elif self._ahead_ms - ahead_ms >= _JUMP_MS_MIN:
            step_s = (self._ahead_ms - ahead_ms) / 1_000
            logger.warning("the system clock jumped ahead by %.1f s; timers due in that time fire now", step_s)
        # While the wall clock is right, `ahead_ms` is the noise of reading two clocks.
        self._ahead_ms = max(ahead_ms, 0)

    async def wait(self, notification: Notification, until_ms: int | None) -> None:
        """Return when notified or when the time reaches `until_ms`; a wait of more than an hour returns early."""
        if until_ms is None:
            await notification.wait()
            return
        remaining_s = (until_ms - self.now_ms()) / 1_000
        if remaining_s > 0:
            await notification.wait(min(remaining_s, _WAIT_S_MAX))


class VirtualClock:
    """A clock whose time changes only when it is advanced."""

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms
        self._waiting: list[Notification] = []

    def now_ms(self) -> int:
        """Return the time in Unix milliseconds."""
        return self._now_ms

    def advance_to(self, now_ms: int) -> None:
        """Set the time to `now_ms`, unless it is later already, and wake all waiting tasks."""
        if now_ms > self._now_ms:
            self._now_ms = now_ms
            for notification in self._waiting:
                notification.notify()

    async def wait(self, notification: Notification, until_ms: int | None) -> None:
        """Return when notified or when the time reaches `until_ms`."""
        if until_ms is not None and until_ms <= self._now_ms:
            return
        self._waiting.append(notification)
        try:
            await notification.wait()
        finally:
            self._waiting.remove(notification)
