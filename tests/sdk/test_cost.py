"""What a step costs does not grow with the number of steps beside it: counted in calls of functions, not in seconds."""

import asyncio
import gc
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from stepstream import App, Context, Event, ThreadedContext, on
from stepstream.contract.limits import DEFAULT_LIMITS
from stepstream.sdk.replay.replay import Replay
from stepstream.testing import VirtualEngine
from tests.sdk.runs import Run, memo

Program = Callable[[int], Callable[[Context], Awaitable[Any]]]


def bodies(steps: int) -> Callable[[Context], Awaitable[int]]:
    """Return code that runs this many bodies in one gather."""

    async def code(ctx: Context) -> int:
        return len(await asyncio.gather(*[ctx.step.run(f"step {number}", int) for number in range(steps)]))

    return code


def branches(steps: int) -> Callable[[Context], Awaitable[int]]:
    """Return code that runs this many bodies in a gather of branches, each with a gather of two."""

    async def code(ctx: Context) -> int:
        async def branch(number: int) -> None:
            await asyncio.gather(*[ctx.step.run(f"step {number}.{part}", int) for part in range(2)])

        await asyncio.gather(*[branch(number) for number in range(steps // 2)])
        return steps

    return code


async def count_calls(program: Program, steps: int, *, replayed: bool) -> float:
    """Return how many functions are called for each step of a run."""
    live = await Run(program(steps)).start()
    memos = [memo(step, 0, own=number) for number, (step, _) in enumerate(live.reports, 1)] if replayed else []
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    run = Run(program(steps), memos, limits=DEFAULT_LIMITS)
    sys.setprofile(count)
    try:
        await run.start()
    finally:
        sys.setprofile(None)
    assert run.output == steps
    return calls / steps


@pytest.mark.parametrize("replayed", [False, True], ids=["live", "replayed"])
@pytest.mark.parametrize("program", [bodies, branches])
async def test_a_step_in_a_large_gather_costs_no_more(program: Program, replayed: bool) -> None:
    """A step among 800 costs at most 1.2 times as much as one among 25."""
    few, many = [await count_calls(program, steps, replayed=replayed) for steps in (26, 800)]
    assert many <= 1.2 * few


class CountedItems(dict[str, int]):
    """An argument that counts how often its items are read."""

    reads = 0

    def items(self) -> Any:
        """Count, and return the items."""
        CountedItems.reads += 1
        return super().items()


async def test_a_step_that_a_thread_replays_has_its_arguments_read_once() -> None:
    """A step whose id is used again is compared with its stored result by what the code passes to it."""
    app = App("cost")

    @app.function(on("go"))
    def code(ctx: ThreadedContext) -> int:
        found = [ctx.step.run("item", len, CountedItems(n=number)) for number in range(3)]
        ctx.step.sleep("nap", "1h")
        return sum(found)

    CountedItems.reads = 0
    async with VirtualEngine(app, live_cache=False) as engine:
        await engine.send(Event("go"))
        live = CountedItems.reads
        await engine.advance("1h")
        assert engine.run().output == 3
    # The first use of an id has no fingerprint.
    assert (live, CountedItems.reads - live) == (2, 2)


def runs_in_memory() -> set[str]:
    """Return the ids of the runs whose code is in memory."""
    return {found.run_id for found in gc.get_objects() if isinstance(found, Replay)}


async def test_a_run_frees_its_memory_at_its_end() -> None:
    """Nothing of a run whose steps follow one another is left to the garbage collector, which would stop all runs."""
    app = App("memory")

    @app.function(on("go"))
    async def code(ctx: Context) -> int:
        await ctx.step.sleep("nap", "1h")
        return await ctx.step.run("one", int)

    async with VirtualEngine(app) as engine:
        gc.disable()
        try:
            await engine.send(*[Event("go") for _ in range(5)])
            started = {run.run_id for run in engine.runs()}
            assert started <= runs_in_memory()
            await engine.advance("1h")
            assert [run.output for run in engine.runs()] == [0] * 5
            # A worker that is idle may still refer to its last command.
            assert len(started & runs_in_memory()) <= 1
        finally:
            gc.enable()
