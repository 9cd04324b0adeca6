"""Canonical JSON (RFC 8785): the bytes of a call that every SDK signs and verifies."""

import msgspec

from stepstream.contract.codec import Json, Raw, dump_json, encode, load_json
from stepstream.contract.errors import InvalidInput

_EXACT_MAX = 2**53
# ECMAScript writes a number with more digits before its point with an exponent.
_DIGITS_MAX = 21
_encode_sorted = msgspec.json.Encoder(order="sorted").encode
# What msgspec may write in another way: integers with a fraction, exponents, numbers of many digits, and the order of
# names with characters beyond U+FFFF. A string with similar text is found as well, and costs time only. A regular
# expression would take ten times as long, and the interpreter runs nothing else meanwhile.
_CLASSES = bytes.maketrans(b"123456789E\xf1\xf2\xf3\xf4", b"000000000e\xf0\xf0\xf0\xf0")
_UNUSUAL_CLASSES = (b"0e", b"0" * 16, b"\xf0")
_UNUSUAL = (b".0,", b".0]", b".0}")
# Numbers with a fraction that msgspec writes as ECMAScript does.
_FRACTION_MIN, _FRACTION_MAX = 1e-5, 1e15


def canonical(value: object) -> bytes:
    """Return a value as canonical JSON; raise NotJson with the path of the first part that is not JSON.

    Numbers are those of ECMAScript: an integer beyond 2^53 is rounded, as every SDK does that verifies a signature.
    """
    return bytes(canonical_json(dump_json(value)))


def canonical_json(raw: bytes | Raw, field: str = "") -> Raw:
    """Return JSON text in its canonical form; raise InvalidInput if it is not JSON or is nested too deeply."""
    value = load_json(raw, own=True, field=field)
    text = _encode_sorted(value)
    if not _is_unusual(text):
        return Raw(text)
    try:
        return Raw(encode(_rewritten(value)))
    except OverflowError:
        raise InvalidInput("a number is larger than 1.8e308", field) from None


def _is_unusual(text: bytes) -> bool:
    classes = text.translate(_CLASSES)
    found = any(each in classes for each in _UNUSUAL_CLASSES) or any(each in text for each in _UNUSUAL)
    return found or text.endswith(b".0")


def _rewritten(value: Json) -> object:
    """Return a value that msgspec writes in the canonical form."""
    match value:
        case dict():
            return {name: _rewritten(value[name]) for name in sorted(value, key=_utf16)}
        case list():
            return [_rewritten(item) for item in value]
        case float() if value.is_integer() and abs(value) <= _EXACT_MAX:
            return int(value)
        case float() if not _FRACTION_MIN <= abs(value) < _FRACTION_MAX:
            return Raw(_number(value).encode())
        case int() if abs(value) > _EXACT_MAX:
            return Raw(_number(float(value)).encode())
        case _:
            return value


def _utf16(name: str) -> bytes:
    return name.encode("utf-16-be")


def _number(number: float) -> str:
    """Return a number as ECMAScript's Number::toString writes it."""
    text = repr(number)
    if "e" not in text:
        return text.removesuffix(".0")
    sign, mantissa = ("-", text[1:]) if number < 0 else ("", text)
    mantissa, _, exponent = mantissa.partition("e")
    digits = mantissa.replace(".", "").rstrip("0")
    point = 1 + int(exponent)
    if len(digits) <= point <= _DIGITS_MAX:
        text = digits.ljust(point, "0")
    elif 0 < point <= _DIGITS_MAX:
        text = f"{digits[:point]}.{digits[point:]}"
    elif -6 < point <= 0:
        text = f"0.{'0' * -point}{digits}"
    else:
        fraction = f".{digits[1:]}" if len(digits) > 1 else ""
        text = f"{digits[0]}{fraction}e{point - 1:+d}"
    return sign + text
