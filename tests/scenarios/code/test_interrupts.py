"""Interrupts derive from BaseException, so `except Exception` in user code does not catch them."""

from stepstream import App, Context, Event, ThreadedContext, on
from tests.scenarios.conftest import EngineOf


async def test_except_exception_does_not_catch_an_interrupt(engine_of: EngineOf) -> None:
    """What suspends a plain function is not an Exception."""
    app = App("replay")

    @app.function(on("go"))
    def function(ctx: ThreadedContext) -> str:
        try:
            ctx.step.sleep("nap", "1h")
        except Exception:  # noqa: BLE001 - the point of the scenario
            return "eaten"
        return ctx.step.run("after", lambda: "slept")

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        assert engine.run().output == "slept"


async def test_except_exception_sees_only_step_errors_in_async_code(engine_of: EngineOf) -> None:
    """`except Exception` around steps of an async function sees StepErrors and no interrupt, even when replayed."""
    app = App("replay")
    eaten: list[str] = []

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        try:
            await ctx.step.sleep("nap", "1h")
            await ctx.step.wait_for_event("wait", event="never", timeout="1h")
        except Exception as error:  # noqa: BLE001 - the point of the scenario
            eaten.append(repr(error))
        finally:
            await ctx.step.run("clean-up", int)
        return "done"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("3h")
        assert engine.run().output == "done"
    assert eaten == []


async def test_a_suspended_run_raises_no_exception_in_its_code(engine_of: EngineOf) -> None:
    """Code that a worker drops while it waits sees no ordinary exception, also from a step that it calls in `finally`.

    Rule: "Interrupts that suspend a function derive from BaseException."
    """
    app = App("replay")
    caught: list[str] = []

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        try:
            await ctx.step.sleep("nap", "1h")
        finally:
            try:
                await ctx.step.run("clean-up", int)
            except Exception as error:  # noqa: BLE001 - the point of the scenario
                caught.append(repr(error))
        return "done"

    @app.function(on("other"))
    async def other(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1h")

    async with engine_of(app, runs_cached_max=1) as engine:
        await engine.send(Event("go"))
        await engine.send(Event("other"), Event("other"))
        await engine.advance("2h")
        assert engine.run("function").output == "done"
    assert caught == []
