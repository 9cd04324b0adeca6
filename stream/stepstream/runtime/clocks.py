"""The clocks: the machine's, and one that goes only when it is told to."""

import time

from stepstream.runtime.notification import Notification

_WAIT_S_MAX = 3_600.0


class SystemClock:
    """The machine's clock, kept from going backwards within a process."""

    def __init__(self) -> None:
        self._latest = 0

    def now_ms(self) -> int:
        """Return the time in Unix milliseconds."""
        self._latest = max(self._latest, time.time_ns() // 1_000_000)
        return self._latest

    async def wait(self, notification: Notification, until_ms: int | None) -> None:
        """Return when `bell` rings or the time reaches `until_ms`; waits of over an hour end early."""
        if until_ms is None:
            await notification.wait()
            return
        remaining = until_ms - time.time_ns() / 1_000_000
        if remaining > 0:
            await notification.wait(min(remaining / 1_000, _WAIT_S_MAX))


class VirtualClock:
    """A clock that stands still until it is advanced."""

    def __init__(self, now_ms: int = 0) -> None:
        self._now_ms = now_ms
        self._waiting: list[Notification] = []

    def now_ms(self) -> int:
        """Return the time in Unix milliseconds."""
        return self._now_ms

    def advance_to(self, now_ms: int) -> None:
        """Move on to `now_ms`; an earlier time changes nothing. Whoever waits looks again."""
        if now_ms > self._now_ms:
            self._now_ms = now_ms
            for notification in self._waiting:
                notification.notify()

    async def wait(self, notification: Notification, until_ms: int | None) -> None:
        """Return when `bell` rings or the time reaches `until_ms`."""
        if until_ms is not None and until_ms <= self._now_ms:
            return
        self._waiting.append(notification)
        try:
            await notification.wait()
        finally:
            self._waiting.remove(notification)
