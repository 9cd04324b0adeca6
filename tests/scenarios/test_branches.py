"""Branches of several steps side by side go on by themselves."""

import asyncio

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


async def test_branches_go_on_by_themselves(engine_of: EngineOf) -> None:
    """A branch of several steps does not wait for the slowest of the others."""
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


async def test_a_task_wakes_who_comes_to_wait_for_it_alone(engine_of: EngineOf) -> None:
    """Steps that are begun together, of which one is waited for by itself later: its result does not wait for all."""
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


async def test_a_task_group_ends_although_its_last_task_is_cancelled(engine_of: EngineOf) -> None:
    """The result of the other had come before, when it let no code go on."""
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
