"""Finds the event names that make up most of the work of a shard, in bounded memory."""

import time
from collections.abc import Callable, Iterator, Mapping

from stepstream.contract.text.printable import printable

# Two windows of this length are added: what the shard did in the last 30 to 60 seconds.
WINDOW_S = 30.0
# Fewer inputs than this in both windows say nothing about load.
INPUTS_MIN = 100
# Each name with more than 1 % of the events is among these, and its count is too low by 1 % of them at most.
_NAMES_MAX = 100
# A name below this share is not exported, so a shard exports at most ten names.
SHARE_MIN = 0.1
LABEL_CHARACTERS_MAX = 100


class _Window:
    """Counts the most frequent names of a window (Misra and Gries, "Finding repeated elements")."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.total = 0

    def add(self, name: str, amount: int) -> None:
        if name in self.counts or len(self.counts) < _NAMES_MAX:
            self.counts[name] = self.counts.get(name, 0) + amount
            return
        removed = min(amount, min(self.counts.values()))
        self.counts = {each: left for each, count in self.counts.items() if (left := count - removed)}
        if amount > removed:
            self.counts[name] = amount - removed


class HotEvents:
    """The share of each frequent event name in the inputs that a shard applied lately."""

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._ends_s = now_s() + WINDOW_S
        self._last, self._current = _Window(), _Window()

    def add(self, inputs: int, names: Mapping[str, int]) -> None:
        """Add the inputs of a batch, and the events among them by name."""
        self._turn()
        self._current.total += inputs
        for name, amount in names.items():
            self._current.add(name, amount)

    def _turn(self) -> None:
        late_s = self._now_s() - self._ends_s
        if late_s >= 0:
            self._last = self._current if late_s < WINDOW_S else _Window()
            self._current = _Window()
            self._ends_s += (late_s // WINDOW_S + 1) * WINDOW_S

    def shares(self) -> Iterator[tuple[str, float]]:
        """Yield each name with at least a tenth of the inputs, as text for a label, and its share (0 to 1)."""
        self._turn()
        windows = (self._last, self._current)
        total = sum(window.total for window in windows)
        if total < INPUTS_MIN:
            return
        for name in self._last.counts | self._current.counts:
            share = sum(window.counts.get(name, 0) for window in windows) / total
            if share >= SHARE_MIN:
                yield _label(name), share


def _label(name: str) -> str:
    """Return a name that any producer may have chosen as text that is safe to print, and not long."""
    text = printable(name)
    return text if len(text) <= LABEL_CHARACTERS_MAX else f"{text[: LABEL_CHARACTERS_MAX - 1]}…"
