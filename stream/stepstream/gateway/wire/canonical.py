"""Canonical JSON (RFC 8785): the bytes of a call that every SDK signs and verifies."""

import re
from collections.abc import Iterator
from decimal import Decimal
from json.encoder import encode_basestring

import msgspec

from stepstream.contract.codec import Json, Raw, dump_json, load_json
from stepstream.contract.errors import InvalidInput

_EXACT_MAX = 2**53
# ECMAScript writes a number with more digits before its point with an exponent.
_DIGITS_MAX = 21
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
# What msgspec may write in another way: numbers with a fraction, an exponent or many digits, and the order of names
# with characters beyond U+FFFF. A string with similar text is found as well, and costs time only.
_UNUSUAL = re.compile(rb"\d[.eE]|\d{16}|[\xf0-\xf4]")


def canonical(value: object) -> bytes:
    """Return a value as canonical JSON; raise NotJson with the path of the first part that is not JSON.

    Numbers are those of ECMAScript: an integer beyond 2^53 is rounded, as every SDK does that verifies a signature.
    """
    return bytes(canonical_json(dump_json(value)))


def canonical_json(raw: bytes | Raw, field: str = "") -> Raw:
    """Return JSON text in its canonical form; raise InvalidInput if it is not JSON or is nested too deeply."""
    value = load_json(raw, own=True, field=field)
    text = _encode_sorted(value)
    if not _UNUSUAL.search(text):
        return Raw(text)
    try:
        return Raw("".join(_parts(value)).encode())
    except OverflowError:
        raise InvalidInput("a number is larger than 1.8e308", field) from None


def _parts(value: Json) -> Iterator[str]:
    match value:
        case dict():
            yield "{"
            for index, name in enumerate(sorted(value, key=_utf16)):
                yield f"{',' if index else ''}{encode_basestring(name)}:"
                yield from _parts(value[name])
            yield "}"
        case list():
            yield "["
            for index, item in enumerate(value):
                yield "," if index else ""
                yield from _parts(item)
            yield "]"
        case str():
            yield encode_basestring(value)
        case None | bool():
            yield {None: "null", True: "true", False: "false"}[value]
        case int() if abs(value) <= _EXACT_MAX:
            yield str(value)
        case int() | float():
            yield _number(float(value))


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be")


def _number(number: float) -> str:
    """Return a number as ECMAScript's Number::toString writes it."""
    text = repr(number)
    if "e" not in text:
        return text.removesuffix(".0") if number else "0"
    sign, parts, exponent = Decimal(text).as_tuple()
    all_digits = "".join(map(str, parts))
    digits = all_digits.rstrip("0")
    point = len(all_digits) + int(exponent)
    if len(digits) <= point <= _DIGITS_MAX:
        text = digits.ljust(point, "0")
    elif 0 < point <= _DIGITS_MAX:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    else:
        fraction = f".{digits[1:]}" if len(digits) > 1 else ""
        text = f"{digits[0]}{fraction}e{point - 1:+d}"
    return "-" * sign + text
