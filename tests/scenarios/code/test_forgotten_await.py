"""A step that is called and never awaited is an error with the remedy."""

import asyncio
from contextlib import suppress

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


async def test_a_forgotten_await_fails_the_run(engine_of: EngineOf) -> None:
    """A step that is called and not awaited fails the run with the remedy."""
    app = App("replay")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        _ = ctx.step.run("lost", lambda: 1)
        return "done"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        run = engine.run()
        assert run.status == "failed"
        assert "write `await`" in str(run.error)


async def test_a_task_cancelled_before_it_starts_is_not_forgotten(engine_of: EngineOf) -> None:
    """A task of a step may end before it starts: by a group that fails, by itself, or by a timeout."""
    app = App("replay")

    @app.function(on("group"))
    async def group(ctx: Context) -> str:
        with suppress(ExceptionGroup):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(ctx.step.run("x", lambda: "never"))
                raise ValueError("the second order is wrong")
        return await ctx.step.run("apologize", lambda: "sorry")

    @app.function(on("task"))
    async def task(ctx: Context) -> str:
        lost = asyncio.create_task(ctx.step.run("x", lambda: "never"))
        lost.cancel()
        await asyncio.gather(lost, return_exceptions=True)
        return "sorry"

    @app.function(on("timeout"))
    async def timeout(ctx: Context) -> str:
        try:
            return await asyncio.wait_for(ctx.step.run("x", lambda: "sorry"), 0)
        except TimeoutError:
            return "sorry"

    async with engine_of(app) as engine:
        await engine.send(Event("group"), Event("task"), Event("timeout"))
        assert [(run.status, run.output, run.warnings) for run in engine.runs()] == [("completed", "sorry", ())] * 3


async def test_every_forgotten_await_is_named(engine_of: EngineOf) -> None:
    """Also calls to which the code has no reference, before and between steps that are awaited."""
    app = App("replay")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        ctx.step.sleep("first", "1h")
        await ctx.step.run("a", lambda: 1)
        ctx.step.run("second", lambda: 1)
        await ctx.step.run("b", lambda: 1)
        ctx.step.run("third", lambda: 1)
        await ctx.step.run("c", lambda: 1)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        run = engine.run()
        assert run.status == "failed"
        assert "step 'first', 'second', 'third' was called but never awaited" in str(run.error)
