"""Text of users that is printed: what a terminal or a reader could misread is escaped as in JSON."""

import json

import pytest

from stepstream.contract.text.printable import printable

UNSAFE = "\x1b\x9b\u202e\u2028\u034f\u115f\u3164\uffa0\U0001bca0\U000e0001\U000e0100"


@pytest.mark.parametrize("character", UNSAFE)
def test_unsafe_characters_are_escaped(character: str) -> None:
    """Control characters, direction marks and characters that no font shows; the escape is that of JSON."""
    shown = printable(f"a{character}b")
    assert shown.isascii()
    assert json.loads(f'"{shown}"') == f"a{character}b"


@pytest.mark.parametrize("text", ["évènement", "注文", "한국", "👩\u200d💻", "❤\ufe0f", "नहीं", "क्\u200dष"])
def test_ordinary_text_stays(text: str) -> None:
    """Text of any language, and emoji that are joined."""
    assert printable(text) == text
