"""Parallel branches of several steps continue independently of each other."""

import asyncio

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


async def test_a_branch_does_not_wait_for_the_slowest(engine_of: EngineOf) -> None:
    """A branch of several steps continues while the other branches wait."""
    app = App("parallel")
    done: list[str] = []

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        async def branch(name: str, nap: str) -> None:
            await ctx.step.sleep(f"{name}-nap", nap)
            await ctx.step.run(f"{name}-work", done.append, name)

        await asyncio.gather(branch("quick", "1m"), branch("slow", "7d"))
        return "done"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        assert done == ["quick"]
        await engine.advance("7d")
        assert engine.run().output == "done"
    assert done == ["quick", "slow"]


async def test_a_step_of_a_fan_out_may_be_awaited_alone(engine_of: EngineOf) -> None:
    """A step that was started with others and is awaited alone later wakes the run without the others."""
    app = App("parallel")
    done: list[str] = []

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(ctx.step.sleep("first", "2h"))
            tasks.create_task(ctx.step.sleep("second", "300d"))
            await ctx.step.sleep("nap", "1h")
            await first
            await ctx.step.run("after-first", done.append, "first")
        return "done"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("3h")
        assert done == ["first"]
        await engine.advance("300d")
        assert engine.run().output == "done"


async def test_a_task_group_ends_after_a_cancelled_task(engine_of: EngineOf) -> None:
    """The result of the other task came before, when the group did not wake the run."""
    app = App("parallel")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(ctx.step.sleep("short", "1h"))
            long = tasks.create_task(ctx.step.sleep("long", "300d"))
            await ctx.step.sleep("nap", "2h")
            long.cancel()
        return "done"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("3h")
        assert engine.run().output == "done"
