"""A step that is called and never awaited is an error with the remedy."""

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


async def test_a_forgotten_await_is_an_error_that_says_so(engine_of: EngineOf) -> None:
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


async def test_every_forgotten_await_is_named(engine_of: EngineOf) -> None:
    """Also of calls that nobody keeps, before and between steps that are awaited."""
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
