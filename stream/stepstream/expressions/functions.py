"""The functions and methods of expressions, each with the types that it takes and its cost."""

import functools
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, cast

import re2  # type: ignore[import-untyped]

from stepstream.expressions.arithmetic import to_int, to_uint
from stepstream.expressions.errors import Fault
from stepstream.expressions.frames import Frame, Value
from stepstream.expressions.limits import (
    NUMERAL_CHARACTERS_MAX,
    REGEX_CHARACTERS_MAX,
    REGEX_MEMORY_BYTES_MAX,
    REGEX_WORK_PER_VISIT,
    REGEXES_CACHED_MAX,
)
from stepstream.expressions.times import (
    ACCESSORS,
    access,
    duration_text,
    timestamp_text,
    to_duration,
    to_timestamp,
    unix_seconds,
)
from stepstream.expressions.values import Uint, charge_string, no_overload, type_of

_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMERAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?(?:inf|Inf|Infinity)|NaN|nan")
_BOOLS = {
    text: value
    for value, texts in ((True, "1 t T true TRUE True"), (False, "0 f F false FALSE False"))
    for text in texts.split()
}


class Regex(Protocol):
    """A compiled RE2 pattern; `programsize` counts its instructions."""

    @property
    def programsize(self) -> int: ...

    def search(self, text: str) -> object: ...


@functools.lru_cache(REGEXES_CACHED_MAX)
def regex(pattern: str) -> Regex:
    """Compile with RE2, whose time is linear in pattern times string; raise ValueError for an invalid pattern."""
    if len(pattern) > REGEX_CHARACTERS_MAX:
        raise ValueError(f"the pattern has {len(pattern)} characters, at most {REGEX_CHARACTERS_MAX} are allowed")
    options = re2.Options()
    options.log_errors = False
    options.max_mem = REGEX_MEMORY_BYTES_MAX
    try:
        return cast(Regex, re2.compile(pattern, options))
    except re2.error as error:
        reason = error.args[0] if error.args else error
        raise ValueError(
            f"invalid pattern: {reason.decode(errors='replace') if isinstance(reason, bytes) else reason}"
        ) from None


def _matches(frame: Frame, text: Value, pattern: Value) -> bool:
    if text.__class__ is not str or pattern.__class__ is not str:
        raise no_overload("matches", text, pattern)
    try:
        compiled = regex(pattern)
        frame.charge(1 + len(text) * compiled.programsize // REGEX_WORK_PER_VISIT)
        return compiled.search(text) is not None
    except ValueError as error:
        raise Fault(f"matches: {error}") from None


def _size(frame: Frame, value: Value) -> int:
    # The size of null is 0, as in cel-python: most conditions treat a missing list as an empty one.
    if value is None:
        return 0
    if isinstance(value, str | bytes | list | Mapping):
        return len(value)
    raise no_overload("size", value)


def _string_test(name: str, test: Callable[[str, str], bool]) -> Callable[..., bool]:
    def run(frame: Frame, text: Value, part: Value) -> bool:
        if text.__class__ is not str or part.__class__ is not str:
            raise no_overload(name, text, part)
        charge_string(frame, len(text))
        return test(text, part)

    return run


def _int(frame: Frame, value: Value) -> int:
    match value:
        case bool():
            raise no_overload("int()", value)
        case int():
            return to_int(value)
        case float() if math.isfinite(value):
            return to_int(math.trunc(value))
        case str() if len(value) <= NUMERAL_CHARACTERS_MAX and _WHOLE.fullmatch(value):
            return to_int(int(value))
        case datetime():
            return unix_seconds(value)
    raise no_overload("int()", value) if not isinstance(value, str | float) else Fault("int() takes a whole number")


def _uint(frame: Frame, value: Value) -> Uint:
    return value if isinstance(value, Uint) else to_uint(_int(frame, value))


def _double(frame: Frame, value: Value) -> float:
    match value:
        case bool():
            raise no_overload("double()", value)
        case int() | float():
            try:
                return float(value)
            except OverflowError:
                raise Fault("the number is too large for a double") from None
        case str() if len(value) <= NUMERAL_CHARACTERS_MAX and _NUMERAL.fullmatch(value):
            return float(value)
    raise no_overload("double()", value) if not isinstance(value, str) else Fault("double() takes a number")


def _string(frame: Frame, value: Value) -> str:
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(to_int(value) if not isinstance(value, Uint) else int(value))
        case float():
            return _double_text(value)
        case datetime():
            return timestamp_text(value)
        case timedelta():
            return duration_text(value)
        case bytes():
            charge_string(frame, len(value))
            try:
                return value.decode()
            except UnicodeDecodeError:
                raise Fault("string() takes bytes in UTF-8") from None
    raise no_overload("string()", value)


def _double_text(value: float) -> str:
    # A whole double has no ".0", as in cel-go: string(event.data.id) is the same for 7 and for 7.0.
    if value.is_integer() and abs(value) < 1e21:
        return f"{'-' if math.copysign(1.0, value) < 0 and value == 0 else ''}{int(value)}"
    return {"inf": "+Inf", "-inf": "-Inf", "nan": "NaN"}.get(text := repr(value), text)


def _bool(frame: Frame, value: Value) -> bool:
    if value.__class__ is bool:
        return bool(value)
    if value.__class__ is str and value in _BOOLS:
        return _BOOLS[value]
    raise no_overload("bool()", value)


def _bytes(frame: Frame, value: Value) -> bytes:
    match value:
        case bytes():
            return value
        case str():
            charge_string(frame, len(value))
            try:
                return value.encode()
            except UnicodeEncodeError:
                raise Fault("bytes() takes a string without lone surrogates") from None
    raise no_overload("bytes()", value)


@dataclass(frozen=True, slots=True)
class Function:
    """`run(frame, *arguments)`, and how many arguments it takes as f(x) and as x.f(), including the receiver."""

    run: Callable[..., Value]
    as_function: frozenset[int] = frozenset()
    as_method: frozenset[int] = frozenset()


def _accessor(name: str) -> Function:
    return Function(lambda frame, *arguments: access(name, *arguments), as_method=frozenset((1, 2)))


_ONE, _TWO = frozenset((1,)), frozenset((2,))
FUNCTIONS: Mapping[str, Function] = {
    "size": Function(_size, _ONE, _ONE),
    "contains": Function(_string_test("contains", str.__contains__), as_method=_TWO),
    "startsWith": Function(_string_test("startsWith", str.startswith), as_method=_TWO),
    "endsWith": Function(_string_test("endsWith", str.endswith), as_method=_TWO),
    "matches": Function(_matches, _TWO, _TWO),
    "int": Function(_int, _ONE),
    "uint": Function(_uint, _ONE),
    "double": Function(_double, _ONE),
    "string": Function(_string, _ONE),
    "bool": Function(_bool, _ONE),
    "bytes": Function(_bytes, _ONE),
    "type": Function(lambda frame, value: type_of(value), _ONE),
    "timestamp": Function(lambda frame, value: to_timestamp(value), _ONE),
    "duration": Function(lambda frame, value: to_duration(value), _ONE),
    **{name: _accessor(name) for name in ACCESSORS},
}
