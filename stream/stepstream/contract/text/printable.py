"""Makes text of users and events safe to print: every line for people and for logs goes through `printable`."""

import re

# Control characters (C0, DEL, C1) can move the cursor, recolour the terminal or start a new line of a log; the line and
# paragraph separators are line ends for some readers; direction marks and invisible characters make text look like
# other text; lone surrogates cannot be written at all. Invisible are those that Unicode lets a font ignore; many of
# them can hide any text. The joiners of words and emoji (U+200C, U+200D, U+FE00 to U+FE0F) are harmless.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb\ud800-\udfff\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)
_UNSAFE_BUT_LINES = re.compile(_UNSAFE.pattern.replace("\x00-\x1f", "\x00-\x09\x0b-\x1f", 1))
_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def printable(text: str, *, keep_lines: bool = False) -> str:
    r"""Return `text` with each unsafe character escaped as in JSON: \n, \u001b, \u202e; `keep_lines` leaves line feeds.

    JSON that was encoded before stays the same JSON, since the characters that are left in it occur inside strings.
    """
    return (_UNSAFE_BUT_LINES if keep_lines else _UNSAFE).sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    character = found[0]
    if (code := ord(character)) > 0xFFFF:
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
    return _SHORT.get(character) or f"\\u{code:04x}"
