"""What a step waits for, as text that people read and that is read again: one event, or several with their names."""

from collections.abc import Iterable, Sequence

_FIRST, _ALL = "first of: ", "all of: "
_BETWEEN = " | "
# The first words of a text about several events; no event of this name has a condition that begins with "of:".
SEVERAL_WORDS = ("first", "all")


def wait_text(event: str, condition: str) -> str:
    """Return the text of a wait for one event: its name, then a path or an expression if it has one."""
    return f"{event} {condition}".strip()


def several_text(waits: Iterable[tuple[str, str]], *, every: bool) -> str:
    """Return the text of a wait for several events, given the name and the text of each."""
    return (_ALL if every else _FIRST) + _BETWEEN.join(f"{name}: {text}" for name, text in waits)


def read_several(text: str) -> tuple[str, Sequence[tuple[str, str]]]:
    """Return how a text about several events begins, and the name and the text of each; ("", ()) for any other text."""
    for words in (_FIRST, _ALL):
        if text.startswith(words):
            parts = text.removeprefix(words).split(_BETWEEN)
            return words.strip(), [(name, rest) for name, _, rest in (part.partition(": ") for part in parts)]
    return "", ()
