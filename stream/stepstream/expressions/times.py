"""Timestamps and durations of CEL, parsed strictly and without a clock.

Only UTC and fixed offsets such as "+02:00" are time zones: the rules of a named zone differ between machines, and an
expression must have the same result on all of them.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction

from stepstream.expressions.errors import Fault
from stepstream.expressions.frames import Value
from stepstream.expressions.limits import NUMERAL_CHARACTERS_MAX
from stepstream.expressions.values import no_overload

_TIMESTAMP = re.compile(r"(\d{4}-\d\d-\d\d)[Tt](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII)
_ZONE = re.compile(r"([+-]?)(\d\d):(\d\d)", re.ASCII)
_AMOUNT = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)", re.ASCII)
_MICROSECONDS = {
    "ns": Fraction(1, 1000),
    "us": Fraction(1),
    "µs": Fraction(1),
    "ms": Fraction(1_000),
    "s": Fraction(1_000_000),
    "m": Fraction(60_000_000),
    "h": Fraction(3_600_000_000),
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DURATION_MAX = timedelta(seconds=315_576_000_000)
_MICROSECOND = timedelta(microseconds=1)


def to_timestamp(value: Value) -> datetime:
    """Return an RFC 3339 string, or Unix seconds, as a timestamp, truncated to microseconds."""
    if isinstance(value, datetime):
        return value
    try:
        if value.__class__ is int:
            return _EPOCH + timedelta(seconds=value)
        found = _TIMESTAMP.fullmatch(value) if value.__class__ is str else None
        if found is None:
            raise Fault('timestamp() takes a string like "2030-01-31T09:00:00Z", or Unix seconds as an int')
        date, clock, fraction, sign, hours, minutes = found.groups()
        moment = datetime.fromisoformat(f"{date}T{clock}.{(fraction or '').ljust(6, '0')[:6]}+00:00")
        return moment - _offset(sign, hours, minutes) if sign else moment
    except (ValueError, OverflowError) as error:
        raise Fault(f"timestamp(): {error}") from None


def to_duration(value: Value) -> timedelta:
    """Return a string like "1h30m", "-1.5s" or "250ms" as a duration, truncated to microseconds."""
    if isinstance(value, timedelta):
        return value
    text = value if value.__class__ is str and len(value) <= NUMERAL_CHARACTERS_MAX else ""
    position, total = (1 if text[:1] in ("-", "+") else 0), Fraction()
    while found := _AMOUNT.match(text, position):
        total += Fraction(found[1]) * _MICROSECONDS[found[2]]
        position = found.end()
    if position < len(text) or not text[-1:].isalpha():
        raise Fault('duration() takes a string like "1h30m", with the units h, m, s, ms, us and ns')
    return checked_duration(int(total), text.startswith("-"))


def checked_duration(microseconds: int, negative: bool) -> timedelta:
    """Return the duration; raise Fault beyond the 10,000 years that CEL allows."""
    if microseconds > _DURATION_MAX // _MICROSECOND:
        raise Fault("the duration is out of range")
    return timedelta(microseconds=-microseconds if negative else microseconds)


def _offset(sign: str, hours: str, minutes: str) -> timedelta:
    offset = timedelta(hours=int(hours), minutes=int(minutes))
    return -offset if sign == "-" else offset


def _in_zone(moment: datetime, zone: Value) -> datetime:
    if zone == "UTC":
        return moment
    found = _ZONE.fullmatch(zone) if zone.__class__ is str else None
    if found is None:
        raise Fault('a time zone is "UTC" or an offset such as "+02:00"; named zones are not supported')
    try:
        return moment + _offset(found[1], found[2], found[3])
    except OverflowError:
        raise Fault("the timestamp is out of range in that time zone") from None


_OF_TIMESTAMP: dict[str, Callable[[datetime], int]] = {
    "getFullYear": lambda moment: moment.year,
    "getMonth": lambda moment: moment.month - 1,
    "getDate": lambda moment: moment.day,
    "getDayOfMonth": lambda moment: moment.day - 1,
    "getDayOfWeek": lambda moment: moment.isoweekday() % 7,
    "getDayOfYear": lambda moment: moment.timetuple().tm_yday - 1,
    "getHours": lambda moment: moment.hour,
    "getMinutes": lambda moment: moment.minute,
    "getSeconds": lambda moment: moment.second,
    "getMilliseconds": lambda moment: moment.microsecond // 1_000,
}
_OF_DURATION = {
    "getHours": timedelta(hours=1),
    "getMinutes": timedelta(minutes=1),
    "getSeconds": timedelta(seconds=1),
    "getMilliseconds": timedelta(milliseconds=1),
}
ACCESSORS = tuple(_OF_TIMESTAMP)


def access(name: str, value: Value, zone: Value = "UTC") -> int:
    """Return one field of a timestamp in `zone`, or a duration in one unit, rounded toward zero."""
    if isinstance(value, datetime):
        return _OF_TIMESTAMP[name](_in_zone(value, zone))
    if isinstance(value, timedelta) and name in _OF_DURATION and zone == "UTC":
        count = abs(value) // _OF_DURATION[name]
        return -count if value < timedelta() else count
    raise no_overload(name, value)


def unix_seconds(moment: datetime) -> int:
    """Return whole seconds since 1970."""
    return (moment - _EPOCH) // timedelta(seconds=1)


def _fraction_text(microseconds: int) -> str:
    return f".{microseconds:06}".rstrip("0") if microseconds else ""


def timestamp_text(moment: datetime) -> str:
    """Return a timestamp as an RFC 3339 string, in UTC."""
    return f"{moment.replace(tzinfo=None, microsecond=0).isoformat()}{_fraction_text(moment.microsecond)}Z"


def duration_text(duration: timedelta) -> str:
    """Return a duration in seconds, such as "5400s" or "-0.25s"."""
    seconds, microseconds = divmod(abs(duration) // _MICROSECOND, 1_000_000)
    return f"{'-' if duration < timedelta() else ''}{seconds}{_fraction_text(microseconds)}s"
