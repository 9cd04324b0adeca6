"""Pauses as operators ask for them: until a time or for a duration."""

from stepstream.contract.control import Pause
from stepstream.contract.durations import duration_ms, moment_ms
from stepstream.contract.errors import InvalidDuration, InvalidInput
from stepstream.contract.limits import DEFAULT_LIMITS
from stepstream.runtime.reruns import check_reason


def pause_of(until: str, by: str, why: str, now_ms: int) -> Pause:
    """Return the pause that ends at `until`: a duration from now such as "2h", an ISO 8601 time, or "" for no end.

    Raise InvalidInput for another text, for a time that is not within the next 366 days, and for a long reason.
    """
    check_reason(why)
    return Pause(_end_of(until, now_ms) if until else 0, by, why)


def _end_of(until: str, now_ms: int) -> int:
    try:
        ends = now_ms + duration_ms(until)
    except InvalidDuration:
        try:
            ends = moment_ms(until)
        except InvalidInput:
            raise InvalidInput(
                f"{until[:80]!r} is not a time; write a duration such as 2h, or 2026-01-31T12:00:00Z", "until"
            ) from None
    if not now_ms < ends <= now_ms + DEFAULT_LIMITS.wait_ms_max:
        raise InvalidInput("a pause ends within the next 366 days; leave it out to pause without an end", "until")
    return ends
