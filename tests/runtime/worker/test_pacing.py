"""A worker starts little in one iteration of its event loop, so that it stays in its group while it starts much."""

import asyncio
from collections import Counter

import pytest

from stepstream import App, Context, on
from stepstream.contract.commands import RunStopped
from stepstream.contract.inbox import RunReturned
from stepstream.contract.limits import BODIES_STARTED_PER_ITERATION_MAX
from tests.fakes.iterations import Iterations
from tests.fakes.waiting import until
from tests.runtime.worker.harness import served, started

RUNS, STEPS = 20, 300


@pytest.mark.slow
async def test_large_fan_outs_start_one_after_another() -> None:
    """Twenty runs that gather 300 steps each: at most 64 bodies, and the code of one or two runs, start at once."""
    app, entries, bodies = App("shop"), Counter[int](), Counter[int]()

    with Iterations() as iterations:

        async def body() -> None:
            bodies[iterations.number] += 1

        @app.function(on("go"))
        async def function(ctx: Context) -> None:
            entries[iterations.number] += 1
            await asyncio.gather(*(ctx.step.run(f"step-{number}", body) for number in range(STEPS)))

        async with served(app) as harness:
            await harness.give(*(started(f"run-{number}") for number in range(RUNS)))
            await until(lambda: len(harness.log.reports_of(RunReturned)) == RUNS)
    assert (entries.total(), bodies.total()) == (RUNS, RUNS * STEPS)
    assert max(bodies.values()) <= BODIES_STARTED_PER_ITERATION_MAX
    assert max(entries.values()) <= 2


async def test_code_known_to_be_small_starts_together() -> None:
    """Once a run of the function has ended, sixty start at once, so that they share writes to the log."""
    app, entries = App("shop"), Counter[int]()

    with Iterations() as iterations:

        @app.function(on("go"))
        async def function(ctx: Context) -> None:
            entries[iterations.number] += 1
            await ctx.step.run("work", lambda: None)

        async with served(app) as harness:
            await harness.give(started("first"))
            await until(lambda: harness.log.reports_of(RunReturned))
            await harness.give(*(started(f"run-{number}") for number in range(60)))
            await until(lambda: len(harness.log.reports_of(RunReturned)) == 61)
    assert max(entries.values()) == 60


async def test_bodies_that_wait_to_start_end_with_their_run() -> None:
    """The run is cancelled while most of its bodies wait for their iteration: they never start."""
    app, ran = App("shop"), list[int]()

    async def body(number: int) -> None:
        ran.append(number)

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await asyncio.gather(*(ctx.step.run(f"step-{number}", body, number) for number in range(1_000)))

    async with served(app) as harness:
        harness.log.give(started())
        await until(lambda: len(ran) >= BODIES_STARTED_PER_ITERATION_MAX)
        harness.log.give(RunStopped("run", "cancelled"))
        await until(lambda: not harness.worker.load.cached)
        stopped = len(ran)
        await harness.settle()
        assert len(ran) == stopped < 1_000
