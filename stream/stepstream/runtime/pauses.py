"""Pauses as operators ask for them: until a time or for a duration."""

from stepstream.contract.errors import InvalidDuration, InvalidInput
from stepstream.contract.limits import DEFAULT_LIMITS
from stepstream.contract.operators.control import Pause
from stepstream.contract.text.durations import duration_ms, moment_ms
from stepstream.runtime.reruns import check_reason


def pause_of(until: str, by: str, why: str, now_ms: int) -> Pause:
    """Return the pause that ends at `until`; raise InvalidInput as end_of_pause does, and for a long reason."""
    check_reason(why)
    return Pause(end_of_pause(until, now_ms), by, why)


def end_of_pause(until: str, now_ms: int) -> int:
    """Return when a pause ends (Unix ms): after a duration such as "2h", at an ISO 8601 time, or for "" never (0).

    Raise InvalidInput for another text, and for a time that is not within the next 366 days.
    """
    if not until:
        return 0
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
