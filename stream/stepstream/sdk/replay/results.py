"""The results that a run's code has not been given yet, in the order in which its steps completed."""

from collections import deque
from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from stepstream.contract.commands import Memo


class Results:
    """Memos in the order of their completion, each given to the code once; all operations are O(log n) or better."""

    def __init__(self, memos: Sequence[Memo]) -> None:
        self._kinds: dict[str, str] = {}
        self._fingerprints: dict[str, int] = {}
        self._refused: set[str] = set()
        self._pending: dict[str, tuple[int, Memo]] = {}
        self._order: deque[str] = deque()
        self._awaited: list[tuple[int, str]] = []
        for memo in memos:
            self.add(memo, awaited=False)

    def __bool__(self) -> bool:
        return bool(self._pending)

    def add(self, memo: Memo, *, awaited: bool) -> None:
        """Take in a memo, unless it is known or refused; `awaited` says that the code waits for it now."""
        if memo.step in self._kinds:
            return
        number = len(self._kinds)
        self._kinds[memo.step] = memo.kind
        if memo.fingerprint:
            self._fingerprints[memo.step] = memo.fingerprint
        if memo.step in self._refused:
            return
        self._pending[memo.step] = (number, memo)
        self._order.append(memo.step)
        if awaited:
            heappush(self._awaited, (number, memo.step))

    def kind_of(self, step: str) -> str:
        """Return the kind of a step that has a memo, whether the code was given it or not; "" for any other step."""
        return self._kinds.get(step, "")

    def fingerprint_of(self, step: str) -> int:
        """Return the fingerprint of a step that has a memo, 0 if it has none."""
        return self._fingerprints.get(step, 0)

    def await_step(self, step: str) -> None:
        """Note that the code waits for a step from now on."""
        if pending := self._pending.get(step):
            heappush(self._awaited, (pending[0], step))

    def refuse(self, step: str) -> None:
        """Drop the memo of a step that the code abandoned, even if the memo arrives later."""
        self._refused.add(step)
        self._pending.pop(step, None)

    def first(self) -> Memo | None:
        """Return the pending memo that comes before all others."""
        while self._order and self._order[0] not in self._pending:
            self._order.popleft()
        return self._pending[self._order[0]][1] if self._order else None

    def take_first(self, step: str) -> Memo | None:
        """Take the memo of a step if no other pending memo comes before it."""
        memo = self.first()
        if memo is None or memo.step != step:
            return None
        self._order.popleft()
        return self._pending.pop(step)[1]

    def take_awaited(self, waits: Callable[[str], bool]) -> Memo | None:
        """Take the first memo that the code waits for; `waits` says whether it still does."""
        while self._awaited:
            _, step = heappop(self._awaited)
            if step in self._pending and waits(step):
                return self._pending.pop(step)[1]
        return None

    def left(self) -> list[Memo]:
        """Return the pending memos in their order."""
        return [memo for _, memo in self._pending.values()]
