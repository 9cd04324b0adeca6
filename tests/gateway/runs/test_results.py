"""What calls contain of the results of a run: each is encoded once, and the others are not read again for it."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stepstream.contract.codec import Raw
from stepstream.contract.commands import Memo
from stepstream.contract.kinds import StepKind
from stepstream.contract.outcomes import Value
from stepstream.gateway.runs.results import Results

STEPS = 100


class CountedMemos(dict[str, Any]):
    """Memos by step that count those that are read one by one."""

    read = 0

    def __iter__(self) -> Iterator[str]:
        for step in super().__iter__():
            self.read += 1
            yield step

    def items(self) -> Any:
        """Return all items, each of which is counted."""
        self.read += len(self)
        return super().items()


def memo(step: str) -> Memo:
    """Return the result of a step."""
    return Memo(step, step, StepKind.RUN, Value(Raw(b"1")), seen=1)


async def test_a_further_result_does_not_read_the_earlier_ones() -> None:
    """A run with many steps is called once after each; the results stay in order."""
    results = Results([])
    results._memos = counted = CountedMemos()
    steps = [f"s{number}" for number in range(STEPS)]
    for step in steps:
        results.add([memo(step)])
        assert [taken for taken, _ in results.take()] == [step]
        await results.encode()
        assert step in results.memos
    assert counted.read == 0
    assert list(results.memos) == steps


async def test_results_that_come_while_others_are_encoded_follow_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that is built meanwhile has all of them, once each and in order."""
    results = Results([memo("a"), memo("b")])
    built: list[list[str]] = []

    async def encoded(_: int, encode: Callable[[], Any]) -> Any:
        results.add([memo("c"), memo("a")])
        assert [step for step, _ in results.take()] == ["c"]
        built.append(list(results.memos))
        return encode()

    monkeypatch.setattr("stepstream.gateway.runs.results.encoded", encoded)
    assert [step for step, _ in results.take()] == ["a", "b"]
    await results.encode()
    assert [*built, list(results.memos)] == [["a", "b", "c"]] * 2
    assert "c" in results
    assert bytes(results.memos["c"]) == b'{"data":1}'
