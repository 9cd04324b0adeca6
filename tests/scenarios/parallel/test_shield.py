"""A shielded task, or one in a task group of another library, waits for its steps like any other."""

import asyncio
from typing import Any

import anyio

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


async def test_a_shielded_step_suspends_the_run(engine_of: EngineOf) -> None:
    """asyncio.shield around a step is not an external wait: the run is suspended until the step has its result."""
    app = App("replay")

    @app.function(on("go"))
    async def function(ctx: Context) -> Any:
        await asyncio.shield(ctx.step.sleep("nap", "1h"))
        return await asyncio.shield(ctx.step.run("late", abs, -7))

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().status == "running"
        await engine.advance("1h")
        assert engine.run().output == 7


async def test_a_task_group_of_anyio_suspends_the_run(engine_of: EngineOf) -> None:
    """Steps in a task group of anyio run in parallel, and the run is suspended while they wait."""
    app = App("replay")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[int]:
        found: list[int] = []

        async def nap(number: int) -> None:
            await ctx.step.sleep(f"nap-{number}", "1h")
            found.append(await ctx.step.run(f"use-{number}", abs, -number))

        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(nap, number)
        return sorted(found)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        assert engine.run().output == [0, 1, 2]
