"""Times on the wire: a duration, an ISO 8601 date, or seconds, which are due at a time that depends on now."""

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime

from stepstream.contract.errors import InvalidInput
from stepstream.contract.limits import DEFAULT_LIMITS, RETRY_AFTER_MS_MAX, RETRY_AFTER_MS_MIN, TIMESTAMP_MS_MAX
from stepstream.contract.text.durations import moment_ms

_UNITS_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
}
_PART = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)(ns|us|µs|ms|s|m|h|d|w)", re.ASCII)
_TEXT_CHARACTERS_MAX = 64
# What Retry-After has up to this length is seconds; anything longer is a date.
_SECONDS_CHARACTERS_MAX = 7
_NS_PER_MS = 1_000_000


@dataclass(frozen=True, slots=True)
class Due:
    """A delay in milliseconds, or a point in time in Unix milliseconds."""

    delay_ms: int = 0
    at_ms: int | None = None

    def at(self, now_ms: int) -> int:
        """Return when it is due, in Unix milliseconds; raise InvalidInput if that is more than 366 days from now."""
        due = now_ms + self.delay_ms if self.at_ms is None else max(self.at_ms, now_ms)
        if due > now_ms + DEFAULT_LIMITS.wait_ms_max:
            raise InvalidInput("a sleep or a timeout lasts at most 366 days", "duration")
        return due

    def retry_delay_ms(self, now_ms: int) -> int:
        """Return the delay before a retry, which is from one second to a day."""
        delay = self.delay_ms if self.at_ms is None else self.at_ms - now_ms
        return min(max(delay, RETRY_AFTER_MS_MIN), RETRY_AFTER_MS_MAX)


def wire_duration_ms(text: str) -> int:
    """Return a duration such as `1h30m` in milliseconds, one that is not zero as at least 1; raise InvalidInput."""
    compact = text.replace(" ", "")
    parts = _PART.findall(compact) if len(compact) <= _TEXT_CHARACTERS_MAX else []
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise InvalidInput(f"{text[:80]!r} is not a duration; write 30s, 1h30m or 7d")
    length_ns = sum(float(number) * _UNITS_NS[unit] for number, unit in parts)
    length_ms = -int(-length_ns // _NS_PER_MS)
    if length_ms > TIMESTAMP_MS_MAX:
        raise InvalidInput(f"{text[:80]!r} is out of range")
    return length_ms


def read_due(text: str, field: str) -> Due:
    """Return a duration or an ISO 8601 date as a time, an empty text as now; raise InvalidInput for other text."""
    if not text:
        return Due()
    try:
        return Due(wire_duration_ms(text)) if _PART.match(text.replace(" ", "")) else Due(at_ms=moment_ms(text))
    except InvalidInput:
        raise InvalidInput(f"{text[:80]!r} is not a duration such as 1h30m, nor an ISO 8601 date", field) from None


def read_retry_after(text: str) -> Due | None:
    """Return the header Retry-After as a time; None if it is neither seconds nor an ISO 8601 or HTTP date."""
    text = text.strip()
    if len(text) <= _SECONDS_CHARACTERS_MAX:
        return Due(int(text) * 1_000) if text.isascii() and text.isdigit() else None
    for read in (moment_ms, lambda found: moment_ms(parsedate_to_datetime(found))):
        try:
            return Due(at_ms=read(text[:_TEXT_CHARACTERS_MAX]))
        except (InvalidInput, ValueError, OverflowError):
            continue
    return None
