"""The string literals of an expression, found and decoded without a regular expression that can backtrack.

The lexer of cel-python takes exponential time for an unclosed string with many backslashes, so every literal is found
here first, and an expression with an invalid one never reaches it. The grammar:
https://github.com/google/cel-spec/blob/master/doc/langdef.md#syntax
"""

import re
from collections.abc import Callable

from stepstream.expressions.errors import error_at
from stepstream.expressions.limits import NESTING_LEVELS_MAX, SOURCE_TOKENS_MAX

_TOKEN = re.compile(
    r"""(?P<skip>//[^\n]*|[\t\n\f\r ]+)"""
    r"""|(?P<prefix>[rR]|[bB][rR]?)?(?P<quote>\"{3}|'{3}|\"|')"""
    r"""|[_a-zA-Z][_a-zA-Z0-9]*|[0-9.]+|&&|\|\||[<>=!]=|(?P<open>[(\[{])|(?P<close>[)\]}])|.""",
    re.DOTALL,
)
# What follows an opening quote, with the closing quote. Alternatives are disjoint; `*+` does not backtrack.
_REST = {
    '"': re.compile(r'(?:[^"\\\n\r]|\\[^\n\r])*+"'),
    "'": re.compile(r"(?:[^'\\\n\r]|\\[^\n\r])*+'"),
    '"""': re.compile(r'(?:[^"\\]|\\.|"(?!""))*+"""', re.DOTALL),
    "'''": re.compile(r"(?:[^'\\]|\\.|'(?!''))*+'''", re.DOTALL),
}
_PARTS = re.compile(r"([rR]|[bB][rR]?)?(\"{3}|'{3}|\"|')")
_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\\"'`?])|[xX]([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-3][0-7]{2})|(.))", re.DOTALL
)
_SIMPLE_ESCAPES = dict(zip("abfnrtv\\\"'`?", "\a\b\f\n\r\t\v\\\"'`?", strict=True))


def scan_strings(source: str) -> dict[int, int]:
    """Return where each string literal starts and ends; raise ExpressionError for an open one or too many tokens."""
    spans: dict[int, int] = {}
    position = tokens = level = 0
    while found := _TOKEN.match(source, position):
        position = found.end()
        if found["skip"]:
            continue
        tokens += 1
        if tokens > SOURCE_TOKENS_MAX:
            raise error_at(
                source, found.start(), f"the expression has more than {SOURCE_TOKENS_MAX:,} tokens; split it"
            )
        level += 1 if found["open"] else -1 if found["close"] else 0
        if level > NESTING_LEVELS_MAX:
            raise error_at(source, found.start(), f"the expression is nested deeper than {NESTING_LEVELS_MAX} levels")
        if quote := found["quote"]:
            position = _string_end(
                source, found.start(), position, quote, raw=(found["prefix"] or "")[-1:] in ("r", "R")
            )
            spans[found.start()] = position
    return spans


def _string_end(source: str, start: int, body: int, quote: str, *, raw: bool) -> int:
    rest = _REST[quote].match(source, body)
    if rest is None:
        raise error_at(source, start, f"this string is not closed; end it with {quote}")
    if raw and f"\\{quote[0]}" in source[body : rest.end() - len(quote)].replace("\\\\", ""):
        raise error_at(
            source, start, "a raw string cannot have a backslash before its quote; use the other kind of quote"
        )
    return rest.end()


def decode_string(source: str, start: int, end: int) -> str | bytes:
    """Return the value of the literal at `source[start:end]`: bytes with the prefix b; raise ExpressionError."""
    parts = _PARTS.match(source, start, end)
    if parts is None:
        raise error_at(source, start, "this is not a string")
    prefix, quote = (parts[1] or "").lower(), parts[2]
    body = source[parts.end() : end - len(quote)]
    if prefix == "b" or prefix == "br":
        pieces = body if prefix == "br" else _ESCAPE.sub(_byte_escape(source, parts.end()), body)
        return b"".join(bytes([ord(c) - 0xDC00]) if "\udc00" <= c <= "\udcff" else c.encode() for c in pieces)
    return body if prefix == "r" else _ESCAPE.sub(_string_escape(source, parts.end()), body)


def _string_escape(source: str, offset: int) -> Callable[[re.Match[str]], str]:
    def expand(found: re.Match[str]) -> str:
        simple, two, four, eight, octal, _ = found.groups()
        if simple:
            return _SIMPLE_ESCAPES[simple]
        code = int(octal, 8) if octal else int(two or four or eight or "-1", 16)
        if not 0 <= code <= 0x10FFFF or 0xD800 <= code <= 0xDFFF:
            raise error_at(source, offset + found.start(), f"{found[0]!r} is not an escape; write \\\\ for a backslash")
        return chr(code)

    return expand


def _byte_escape(source: str, offset: int) -> Callable[[re.Match[str]], str]:
    def expand(found: re.Match[str]) -> str:
        simple, two, _, _, octal, _ = found.groups()
        if simple:
            return _SIMPLE_ESCAPES[simple]
        if not (two or octal):
            raise error_at(
                source, offset + found.start(), f"{found[0]!r} is not an escape in bytes; write \\\\ for a backslash"
            )
        # Until all escapes are expanded, a byte is represented by a surrogate, which no source may contain.
        return chr(0xDC00 + (int(octal, 8) if octal else int(two, 16)))

    return expand
