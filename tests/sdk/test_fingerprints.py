"""Steps of one id: a replay that calls them in another order is stopped, before results are mixed up."""

import asyncio
import functools
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from stepstream import Context, Event
from stepstream.contract.commands import Memo, Open
from stepstream.contract.ids import StepHash
from stepstream.contract.kinds import StepKind
from stepstream.sdk.errors import HistoryMismatchError
from stepstream.sdk.replay.calls import Call
from stepstream.sdk.replay.fingerprints import fingerprint
from tests.sdk.runs import Run, memo

Code = Callable[[Context], Awaitable[Any]]


def in_order(items: Sequence[str]) -> Code:
    """Return code that runs one step of one id for each item, all at once, in this order."""

    async def process(ctx: Context, item: str) -> str:
        return await ctx.step.run("item", str.upper, item)

    async def code(ctx: Context) -> list[str]:
        return sorted(await asyncio.gather(*[process(ctx, item) for item in items]))

    return code


async def stored(items: Sequence[str], *uses: int) -> list[Memo]:
    """Run the code for items in this order; return the results of these uses as they are stored."""
    live = await Run(in_order(items)).start()
    memos = [memo("item", item.upper(), own=use + 1, use=use) for use, item in enumerate(items)]
    return [msgspec.structs.replace(memos[use], fingerprint=live.fingerprints[memos[use].step]) for use in uses]


ITEMS = ["a", "b", "c", "d"]


@pytest.mark.parametrize("uses", [(0,), (1,), (3,), (0, 1, 2, 3)], ids=str)
async def test_steps_of_one_id_in_another_order_stop_the_run(uses: Sequence[int]) -> None:
    """Whichever of the results are stored, no body runs, and the run ends as one whose code does not fit."""
    run = await Run(in_order(ITEMS[::-1]), await stored(ITEMS, *uses)).start()
    with pytest.raises(HistoryMismatchError, match="steps with the id 'item' are called in another order than before"):
        _ = run.output
    assert run.bodies == []


@pytest.mark.parametrize("uses", [(), (0,), (1,), (0, 1, 2, 3)], ids=str)
async def test_steps_of_one_id_in_the_same_order_continue(uses: Sequence[int]) -> None:
    """The steps that have no result run, and there is no warning."""
    run = await Run(in_order(ITEMS), await stored(ITEMS, *uses)).start()
    assert (run.output, len(run.bodies), run.warnings) == (["A", "B", "C", "D"], len(ITEMS) - len(uses), [])


async def test_an_attempt_in_another_order_stops_the_run() -> None:
    """A step between two attempts is known by its arguments too: its next attempt is not for another item."""
    (second,) = await stored(["a", "b"], 1)
    opened = Open(second.step, 1, ready=True, fingerprint=second.fingerprint)
    run = await Run(in_order(["b", "a"]), [], [opened]).start()
    assert (type(run.end and run.end.error), run.bodies) == (HistoryMismatchError, [])


async def test_other_arguments_of_a_repeated_id_are_a_warning() -> None:
    """A changed argument that no other use had is not a changed order: the step keeps its result."""
    run = await Run(in_order(["a", "x", "c", "d"]), await stored(ITEMS, 0, 1, 2, 3)).start()
    assert run.output == ["A", "B", "C", "D"]
    assert ["is called with other arguments than before" in warning for warning in run.warnings] == [True]


async def test_waits_of_one_id_in_another_order_stop_the_run() -> None:
    """The plans of steps that the engine opens carry the fingerprints, for all kinds of step."""

    def code(items: Sequence[str]) -> Code:
        async def wait(ctx: Context, item: str) -> None:
            await ctx.step.wait_for_event("item", event=item, timeout="1h")

        async def both(ctx: Context) -> None:
            await asyncio.gather(*[wait(ctx, item) for item in items])

        return both

    live = await Run(code(["a", "b"])).start()
    opened = [Open(plan.step, kind=StepKind.WAIT, fingerprint=plan.fingerprint) for plan in live.plans]
    assert all(step.fingerprint for step in opened)
    run = await Run(code(["b", "a"]), [], opened).start()
    assert isinstance(run.end and run.end.error, HistoryMismatchError)
    unchanged = await Run(code(["a", "b"]), [], opened).start()
    assert (unchanged.end, unchanged.plans, unchanged.warnings) == (None, [], [])


async def test_ids_with_one_use_have_no_fingerprint() -> None:
    """Neither a report nor a plan contains one, so it costs no bytes."""

    async def code(ctx: Context) -> None:
        await asyncio.gather(*[ctx.step.run(item, str.upper, item) for item in ITEMS], ctx.step.sleep("nap", "1h"))

    run = await Run(code).start()
    assert set(run.fingerprints.values()) == {0}
    assert [plan.fingerprint for plan in run.plans] == [0]


@dataclass
class Order:
    """A value that users pass."""

    number: int


def call(*arguments: Any, body: Callable[..., Any] = str.upper) -> Call:
    """Return a step that passes these arguments to its body."""
    return Call(StepHash("s"), "s", StepKind.RUN, body=functools.partial(body, *arguments))


VALUES = [
    None, True, 1, 10**30, 1.5, "a", "b", b"a", [1, [2]], [[1], 2], (), {"a": 1}, {"a": 2}, {1, 2}, Order(1), Order(2),
    datetime(2026, 1, 2, tzinfo=UTC), datetime(2026, 1, 3, tzinfo=UTC), StepKind.RUN, StepKind.WAIT, "x" * 9_000,
]  # fmt: skip


def test_different_values_have_different_fingerprints() -> None:
    """Each value counts, also one that a closure or a bound method carries."""

    def closure(value: Any) -> Callable[[], Any]:
        return lambda: value

    assert len({fingerprint(call(value)) for value in VALUES}) == len(VALUES)
    plain = [value for value in VALUES if isinstance(value, str | int | float | bytes | tuple | datetime)]
    assert len({fingerprint(call(body=closure(value))) for value in plain}) == len(plain)
    assert fingerprint(call(Event("a", {"n": 1}))) != fingerprint(call(Event("a", {"n": 2})))
    assert fingerprint(call(body="a".join)) != fingerprint(call(body="b".join))
    assert fingerprint(call({"a": 1, "b": {3, 4}})) == fingerprint(call({"b": {4, 3}, "a": 1}))


def test_state_around_a_body_does_not_count() -> None:
    """A body may count in a variable of the code around it: the fingerprint is the same in a replay."""

    def closure(item: str, seen: list[str]) -> Callable[[], Any]:
        return lambda: seen.append(item)

    def stateful(seen: list[str]) -> Callable[[], Any]:
        return lambda: len(seen)

    assert fingerprint(call(body=stateful([]))) == fingerprint(call(body=stateful(["a"])))

    assert fingerprint(call(body=closure("a", []))) == fingerprint(call(body=closure("a", ["a"])))
    assert fingerprint(call(body=closure("a", []))) != fingerprint(call(body=closure("b", [])))
    assert fingerprint(call(body=["a"].append)) == fingerprint(call(body=["b"].append))


def test_objects_count_by_their_type_and_are_read_up_to_a_bound() -> None:
    """What has an address or no end gives one fingerprint, and the code of the user is not called."""

    class Client:
        def __repr__(self) -> str:
            raise AssertionError("a fingerprint calls no repr of a user's class")

    circle: list[Any] = []
    circle.append(circle)
    assert fingerprint(call(Client())) == fingerprint(call(Client()))
    assert fingerprint(call(circle)) == fingerprint(call(circle)) != fingerprint(call([[]]))
    assert fingerprint(call([*range(100_000)])) != fingerprint(call([*range(99_999)]))


@pytest.mark.slow
def test_fingerprints_are_the_same_in_every_process() -> None:
    """They do not depend on the seed of the hashes of strings."""
    script = "from tests.sdk.test_fingerprints import *; print([fingerprint(call(value)) for value in VALUES])"
    runs = [
        subprocess.run([sys.executable, "-c", script], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
                       capture_output=True, text=True, check=True).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert runs[0] == runs[1]
