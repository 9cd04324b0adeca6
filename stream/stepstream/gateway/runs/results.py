"""The results of one run in the order in which its code sees them, which is the order of their rows in the engine."""

from collections import deque
from collections.abc import Iterable, Iterator

from stepstream.contract.codec import Raw
from stepstream.contract.commands import Memo
from stepstream.contract.kinds import StepKind
from stepstream.contract.outcomes import Failure, Outcome, TimedOut
from stepstream.gateway.wire.memos import memo_json
from stepstream.sdk.replay.calls import RUN, Call

_INVOKE_TIMEOUT = "invoke-timeout"


class Results:
    """What calls contain of the results of a run.

    A result of a call has its place among the others when its report begins. Until it is durable, results of the engine
    that come later wait. `memos` are in the shapes of SDKs, by step, and `seen` counts those of the engine.
    """

    def __init__(self, memos: Iterable[Memo]) -> None:
        self.memos: dict[str, Raw] = {}
        self.seen = 0
        self._reporting: dict[Call, Outcome | None] = {}
        self._news = deque(memos)

    def __contains__(self, step: str) -> bool:
        return step in self.memos

    def add(self, memos: Iterable[Memo]) -> None:
        """Take in results of the engine."""
        self._news.extend(memos)

    def begin_report(self, call: Call) -> int:
        """Fix the place of the result of a call, and return the `seen` of its report."""
        self._reporting[call] = None
        return self.seen

    def end_report(self, call: Call, outcome: Outcome) -> None:
        """Note that the result of a call is durable."""
        self._reporting[call] = outcome

    def take(self) -> Iterator[tuple[str, Memo | None]]:
        """Yield each step whose result is now in its place; the memo is None for a result of a call."""
        while self._reporting:
            call, outcome = next(iter(self._reporting.items()))
            if outcome is None:
                return
            del self._reporting[call]
            self.memos.setdefault(call.step, _memo(RUN, outcome))
            yield call.step, None
        while self._news:
            memo = self._news.popleft()
            self.seen = max(self.seen, memo.seen)
            if memo.step not in self.memos:
                self.memos[memo.step] = _memo(memo.kind, memo.outcome, memo.signal or memo.id)
                yield memo.step, memo


def _memo(kind: StepKind, outcome: Outcome, signal: str = "") -> Raw:
    if isinstance(outcome, Failure) and outcome.error.code == _INVOKE_TIMEOUT:
        outcome = TimedOut()
    return memo_json(kind, outcome, signal=signal)
