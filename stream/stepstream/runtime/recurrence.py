"""When to log a condition that lasts."""

import re
import time
from collections.abc import Callable

_LOG_AGAIN_S, _LOG_AGAIN_S_MAX = 60.0, 3_600.0
_KEYS_MAX = 10


class Recurrence:
    """When to log a condition that lasts: at once, then again after 1, 2, 4, … minutes, at most an hour apart.

    A condition with a new key, or one that returns after it was absent for as long as it takes to log it again, is
    logged at once. Keys that alternate are one condition: each is logged when it first occurs, and after that, one line
    per interval has whichever occurs then. Keys that differ only in numbers count as equal: numbers are often offsets
    or times. `elapsed_s` is a monotonic clock.
    """

    def __init__(self, elapsed_s: Callable[[], float] = time.monotonic) -> None:
        self._elapsed_s = elapsed_s
        # When the latest keys occurred last.
        self._seen: dict[str, float] = {}
        self._interval_s = _LOG_AGAIN_S
        self._logged_at = self._first_at = 0.0
        self._count = 0

    def occurs(self, key: str) -> str | None:
        """Note one occurrence; return how often it occurred before if it must be logged ("" for the first), or None."""
        key, now = re.sub(r"\d+", "0", key), self._elapsed_s()
        lately = {each: at for each, at in self._seen.items() if now - at <= self._interval_s}
        is_new = lately.pop(key, None) is None
        self._seen = {**lately, key: now}
        if len(self._seen) > _KEYS_MAX:
            del self._seen[next(iter(self._seen))]
        if is_new:
            self._count, self._interval_s, self._logged_at, self._first_at = 1, _LOG_AGAIN_S, now, now
            return ""
        self._count += 1
        if now - self._logged_at < self._interval_s:
            return None
        self._logged_at, self._interval_s = now, min(2 * self._interval_s, _LOG_AGAIN_S_MAX)
        return f" ({self._count:,} times in {(now - self._first_at) / 60:.0f} min)"

    def ends(self) -> float | None:
        """Note that the condition is over; return for how many seconds it lasted, or None if there was none."""
        lasted = self._elapsed_s() - self._first_at if self._seen else None
        self._seen = {}
        return lasted
