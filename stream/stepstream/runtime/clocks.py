"""The clocks: the wall clock, which never goes back within a process, and a virtual one that tests advance."""

import asyncio
import functools
import logging
import time
from collections.abc import Callable

from stepstream.runtime.notification import Notification

logger = logging.getLogger(__name__)
_WAIT_S_MAX = 3_600.0
_NS_PER_MS = 1_000_000
# Steps of the wall clock below this are ordinary corrections and are not worth a line in the log.
_JUMP_NS_MIN = 1_000_000_000

# A clock that is never set; if the system has one, it also counts while the machine is suspended.
_elapsed_ns: Callable[[], int] = (
    functools.partial(time.clock_gettime_ns, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic_ns
)


class Sleepers:
    """The bodies of steps that sleep until a virtual time, in place of work; nothing happens in them before that."""

    def __init__(self) -> None:
        # The time at which each sleep ends, and the body that sleeps, which may do so several times at once.
        self._sleeps: dict[asyncio.Future[None], tuple[int, object]] = {}

    @property
    def asleep(self) -> int:
        """How many bodies sleep."""
        return len({id(body) for _, body in self._sleeps.values()})

    @property
    def next_due(self) -> int | None:
        """When the next sleep ends (Unix ms)."""
        return min((until_ms for until_ms, _ in self._sleeps.values()), default=None)

    async def sleep(self, body: object, until_ms: int) -> None:
        """Return when the virtual time has reached `until_ms`."""
        sleep: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleeps[sleep] = (until_ms, body)
        try:
            await sleep
        finally:
            self._sleeps.pop(sleep, None)

    def wake(self, now_ms: int) -> None:
        """End the sleeps that are due, in the order in which they are."""
        due = sorted((until_ms, at) for at, (until_ms, _) in enumerate(self._sleeps.values()) if until_ms <= now_ms)
        sleeps = list(self._sleeps)
        for _, at in due:
            del self._sleeps[sleeps[at]]
            if not sleeps[at].done():
                sleeps[at].set_result(None)


class SystemClock:
    """The wall clock, except that it never goes back within a process.

    When the wall clock steps back, time continues at the pace of a clock that is never set, until the wall clock has
    caught up: a sleep of an hour still takes an hour. A step back and a jump ahead are logged with their size if that
    is a second or more, and so are small steps back that add up to it. `wall_ns` and `elapsed_ns` are the two sources,
    in nanoseconds.
    """

    # Bodies sleep in real time.
    sleepers: Sleepers | None = None

    def __init__(self, wall_ns: Callable[[], int] = time.time_ns, elapsed_ns: Callable[[], int] = _elapsed_ns) -> None:
        self._wall_ns = wall_ns
        self._elapsed_ns = elapsed_ns
        # The time is that of the clock that is never set, plus an offset that only grows.
        self._offset_ns = wall_ns() - elapsed_ns()
        self._behind_ns = self._logged_ns = 0

    def now_ms(self) -> int:
        """Return the time in Unix milliseconds."""
        # The wall clock is read first: if the process is frozen in between, it must not seem to have jumped ahead,
        # which this clock would keep.
        wall_ns = self._wall_ns()
        now_ns = self._elapsed_ns() + self._offset_ns
        if not self._behind_ns and -_NS_PER_MS < now_ns - wall_ns < _NS_PER_MS:
            return now_ns // _NS_PER_MS
        return self._correct() // _NS_PER_MS

    def _correct(self) -> int:
        """Return the time in nanoseconds when this clock and the wall clock differ."""
        # The sources are read again: the process may have been frozen between them.
        wall_ns = self._wall_ns()
        now_ns = self._elapsed_ns() + self._offset_ns
        behind_ns = now_ns - wall_ns
        # What the wall clock has caught up may be lost again.
        self._logged_ns = min(self._logged_ns, max(behind_ns, 0))
        if behind_ns - self._logged_ns >= _JUMP_NS_MIN:
            back = "the system clock stepped back by %.1f s; time continues without it until it has caught up"
            logger.warning(back, (behind_ns - self._logged_ns) / 1e9)
            self._logged_ns = behind_ns
        elif behind_ns <= -_JUMP_NS_MIN:
            logger.warning(
                "the system clock jumped ahead by %.1f s; timers due in that time fire now", -behind_ns / 1e9
            )
        self._offset_ns += max(-behind_ns, 0)
        self._behind_ns = behind_ns if behind_ns >= _NS_PER_MS else 0
        return max(now_ns, wall_ns)

    async def wait(self, notification: Notification, until_ms: int | None) -> None:
        """Return when notified or when the time reaches `until_ms`; a wait of more than an hour returns early."""
        if until_ms is None:
            await notification.wait()
            return
        remaining_s = (until_ms - self.now_ms()) / 1_000
        if remaining_s > 0:
            await notification.wait(min(remaining_s, _WAIT_S_MAX))


class VirtualClock:
    """A clock whose time changes only when it is advanced. `sleepers` are the bodies that wait for that."""

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms
        self._waiting: list[Notification] = []
        self.sleepers = Sleepers()

    def now_ms(self) -> int:
        """Return the time in Unix milliseconds."""
        return self._now_ms

    def advance_to(self, now_ms: int) -> None:
        """Set the time to `now_ms`, unless it is later already, and wake all waiting tasks."""
        if now_ms > self._now_ms:
            self._now_ms = now_ms
            for notification in self._waiting:
                notification.notify()
            self.sleepers.wake(now_ms)

    async def wait(self, notification: Notification, until_ms: int | None) -> None:
        """Return when notified or when the time reaches `until_ms`."""
        if until_ms is not None and until_ms <= self._now_ms:
            return
        self._waiting.append(notification)
        try:
            await notification.wait()
        finally:
            self._waiting.remove(notification)
