"""The results of one run in the order in which its code sees them, which is the order of their rows in the engine."""

import functools
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from stepstream.contract.codec import Raw
from stepstream.contract.commands import Memo
from stepstream.contract.kinds import StepKind
from stepstream.contract.outcomes import Failure, Outcome, TimedOut, outcome_bytes
from stepstream.gateway.runs.encoding import encoded
from stepstream.gateway.wire.memos import memo_json
from stepstream.sdk.replay.calls import RUN, Call

INVOKE_TIMEOUT = "invoke-timeout"


@dataclass(frozen=True, slots=True)
class _Result:
    """The result of a step that no call has contained yet; `signal` is the name for which it waited."""

    kind: StepKind
    outcome: Outcome
    signal: str = ""

    def memo(self) -> Raw:
        """Return it in the shape of SDKs."""
        outcome = self.outcome
        if isinstance(outcome, Failure) and outcome.error.code == INVOKE_TIMEOUT:
            outcome = TimedOut()
        return memo_json(self.kind, outcome, signal=self.signal)


class Results:
    """What calls contain of the results of a run.

    A result of a call has its position among the others when its report begins. Until it is durable, results of the
    engine that come later wait. `seen` counts those of the engine, and `size` their bytes.
    """

    def __init__(self, memos: Iterable[Memo]) -> None:
        self.seen = self.size = 0
        # Both in the order of the results; those that are not encoded yet are the last ones.
        self._memos: dict[str, Raw] = {}
        self._results: dict[str, _Result] = {}
        self._reporting: dict[Call, Outcome | None] = {}
        self._news = deque(memos)

    def __contains__(self, step: str) -> bool:
        return step in self._memos or step in self._results

    @property
    def memos(self) -> Mapping[str, Raw]:
        """The results in the shapes of SDKs, by step; those that `encode` has not encoded are encoded now."""
        self._memos |= _encoded(self._results)
        self._results.clear()
        return self._memos

    async def encode(self) -> None:
        """Encode the results that have come; one call of it at a time encodes each of them once."""
        while found := dict(self._results):
            size = sum(outcome_bytes(each.outcome) for each in found.values())
            self._memos |= await encoded(size, functools.partial(_encoded, found))
            for step in found:
                self._results.pop(step, None)

    def add(self, memos: Iterable[Memo]) -> None:
        """Take in results of the engine."""
        self._news.extend(memos)

    def begin_report(self, call: Call) -> int:
        """Fix the position of the result of a call, and return the `seen` of its report."""
        self._reporting[call] = None
        return self.seen

    def end_report(self, call: Call, outcome: Outcome) -> None:
        """Note that the result of a call is durable."""
        self._reporting[call] = outcome

    def take(self) -> Iterator[tuple[str, Memo | None]]:
        """Take the results that are next in order, and yield their steps; the memo is None for a result of a call."""
        while self._reporting:
            call, outcome = next(iter(self._reporting.items()))
            if outcome is None:
                return
            del self._reporting[call]
            if call.step not in self:
                self._take(call.step, _Result(RUN, outcome))
            yield call.step, None
        while self._news:
            memo = self._news.popleft()
            self.seen = max(self.seen, memo.seen)
            if memo.step not in self:
                self._take(memo.step, _Result(memo.kind, memo.outcome, memo.signal or memo.id))
                yield memo.step, memo

    def _take(self, step: str, result: _Result) -> None:
        self._results[step] = result
        self.size += outcome_bytes(result.outcome)


def _encoded(results: Mapping[str, _Result]) -> dict[str, Raw]:
    return {step: result.memo() for step, result in results.items()}
