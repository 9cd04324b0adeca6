"""Values of runs for a language model: bounded in size, without characters that people do not see."""

from collections.abc import Iterator
from itertools import islice
from typing import Any

from stepstream.contract.codec import encode
from stepstream.contract.text.printable import printable

RESULT_BYTES_MAX = 64 * 1024
# Characters of a text, items of a list or fields of an object, and levels; each next row is used if a result is too
# large by the one before.
_BOUNDS = ((2_000, 100, 12), (500, 50, 8), (200, 20, 6), (80, 10, 5), (40, 5, 4))
_CUT = "… cut"


def bounded(value: dict[str, Any]) -> dict[str, Any]:
    """Return a JSON object of at most RESULT_BYTES_MAX, in which what was left out is marked.

    Control characters and invisible ones are escaped: text of an event must not look like something else.
    """
    for characters, items, levels in _BOUNDS:
        found: dict[str, Any] = _Cutter(characters, items).cut(value, levels)
        if len(encode(found)) <= RESULT_BYTES_MAX:
            return found
    return {_CUT: "the result is too large"}


class _Cutter:
    """Cuts a value to so many characters of a text and items of a list."""

    def __init__(self, characters: int, items: int) -> None:
        self._characters = characters
        self._items = items

    def cut(self, value: Any, levels: int) -> Any:
        match value:
            case str():
                return self._text(value)
            case dict() | list() | tuple() if not levels:
                return _CUT if value else value
            case dict():
                return dict(self._fields(value, levels))
            case list() | tuple():
                left = [f"{_CUT}: {len(value) - self._items:,} more"] if len(value) > self._items else []
                return [self.cut(item, levels - 1) for item in value[: self._items]] + left
        return value

    def _fields(self, value: dict[Any, Any], levels: int) -> Iterator[tuple[str, Any]]:
        for name, item in islice(value.items(), self._items):
            yield self._text(str(name)), self.cut(item, levels - 1)
        if len(value) > self._items:
            yield _CUT, f"{len(value) - self._items:,} more"

    def _text(self, text: str) -> str:
        more = len(text) - self._characters
        shown = printable(text[: self._characters], keep_lines=True)
        return f"{shown}{_CUT}: {more:,} more characters" if more > 0 else shown
