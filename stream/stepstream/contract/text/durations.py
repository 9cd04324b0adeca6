"""Durations and points in time as users write them, as whole milliseconds."""

import math
import re
from datetime import UTC, datetime, timedelta

from stepstream.contract.errors import InvalidDuration, InvalidInput
from stepstream.contract.limits import TIMESTAMP_MS_MAX

_FORMS = '"30s", "2h45m", "7d", a timedelta or a number of seconds'
_MOMENTS = "a datetime, an ISO 8601 string or Unix milliseconds as an int"
_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w)")
_TEXT_CHARACTERS_MAX = 64
Duration = str | int | float | timedelta
Moment = str | int | datetime


def duration_ms(value: Duration) -> int:
    """Return `value` in milliseconds; a bare number counts seconds. Negative durations are refused."""
    match value:
        case timedelta():
            result = value / timedelta(milliseconds=1)
        case bool():
            raise InvalidDuration(f"{value!r} is not a duration; write {_FORMS}")
        case int() | float():
            result = value * 1_000.0 if math.isfinite(value) else -1.0
        case str():
            result = _parse(value)
        case _:
            found = f"{value!r}"[:_TEXT_CHARACTERS_MAX]
            raise InvalidDuration(f"{found} is not a duration; write {_FORMS}")
    if not 0 <= result <= TIMESTAMP_MS_MAX:
        raise InvalidDuration(f"{value!r} is out of range; a duration is finite and not negative")
    return round(result)


def _parse(text: str) -> float:
    compact = text.replace(" ", "")
    parts = _PART.findall(compact) if len(compact) <= _TEXT_CHARACTERS_MAX else []
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise InvalidDuration(f"{text[:80]!r} is not a duration; write {_FORMS} (units: {', '.join(_UNITS_MS)})")
    return sum(float(number) * _UNITS_MS[unit] for number, unit in parts)


def moment_ms(value: Moment) -> int:
    """Return a point in time as Unix milliseconds; a datetime or ISO 8601 string without a time zone is in UTC."""
    match value:
        case bool():
            raise InvalidInput(f"{value!r} is not a point in time; write {_MOMENTS}")
        case int():
            result = value
        case datetime():
            result = _datetime_ms(value)
        case str():
            try:
                result = _datetime_ms(datetime.fromisoformat(value))
            except ValueError:
                raise InvalidInput(
                    f"{value[:80]!r} is not an ISO 8601 date and time; write it as 2026-01-31T12:00:00Z"
                ) from None
        case _:
            found = f"{value!r}"[:_TEXT_CHARACTERS_MAX]
            raise InvalidInput(f"{found} is not a point in time; write {_MOMENTS}")
    if not 0 <= result <= TIMESTAMP_MS_MAX:
        raise InvalidInput(f"{value!r} is out of range; write a time from 1970 on, in milliseconds")
    return result


def _datetime_ms(value: datetime) -> int:
    aware = value if value.tzinfo else value.replace(tzinfo=UTC)
    return round(aware.timestamp() * 1_000)
