"""The functions that the benchmarks run, and what a benchmark returns."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from stepstream import App, Concurrency, Context, on

_M = TypeVar("_M")
app = App("bench")
LARGE_RUNS, LARGE_RESULTS, LARGE_BYTES = 40, 8, 4_000_000
_together = asyncio.Barrier(LARGE_RUNS * LARGE_RESULTS)


async def work(number: int) -> int:
    """Return the next number: the smallest possible step."""
    return number + 1


async def run_three_steps(ctx: Context) -> int:
    """Run three steps."""
    first = await ctx.step.run("one", work, 1)
    second = await ctx.step.run("two", work, first)
    return await ctx.step.run("three", work, second)


three_steps = app.function(on("bench/three"), id="three-steps")(run_three_steps)
limited_three_steps = app.function(
    on("bench/limited"), id="limited", concurrency=Concurrency(1, counts="runs", key="event.data.n")
)(run_three_steps)
three_steps_in_turn = app.function(
    on("bench/turn"), id="turn", concurrency=Concurrency(1, counts="runs", key="event.data.all")
)(run_three_steps)


@app.function(on("bench/long"))
async def thousand_steps(ctx: Context) -> list[float]:
    """Run 999 steps; return the time at which each ended (s)."""
    times: list[float] = []
    for number in range(999):
        await ctx.step.run(f"step-{number}", work, number)
        times.append(time.perf_counter())
    return times


@app.function(on("bench/wait"))
async def wait_for_one(ctx: Context) -> bool:
    """Wait for the event of the same key."""
    return await ctx.step.wait_for_event("go", event="bench/go", match="data.key", timeout="1d") is not None


@app.function(on("bench/once"))
async def return_at_once(ctx: Context) -> bool:
    """Return without a step: the smallest possible run."""
    return ctx.event.name == "bench/once"


async def _large() -> str:
    return "x" * LARGE_BYTES


async def _together_large() -> str:
    """Return a large result at the moment at which the bodies of all runs do."""
    await _together.wait()
    return await _large()


async def _gather(ctx: Context, body: Callable[[], Awaitable[str]]) -> int:
    return len(await asyncio.gather(*(ctx.step.run(f"step-{number}", body) for number in range(LARGE_RESULTS))))


@app.function(on("bench/large"))
async def large_results(ctx: Context) -> int:
    """Gather large results."""
    return await _gather(ctx, _large)


@app.function(on("bench/large-together"))
async def large_together(ctx: Context) -> int:
    """Gather large results which all runs have at the same moment."""
    return await _gather(ctx, _together_large)


def chosen(measures: Iterable[_M], requested: Collection[str]) -> Iterator[_M]:
    """Yield the measures whose names are requested, or all if none is."""
    return (each for each in measures if not requested or getattr(each, "__name__", "") in requested)


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured number with its unit and its goal; one of a curve has a `bar`."""

    name: str
    value: float
    unit: str
    aim: str = ""
    bar: str = ""
