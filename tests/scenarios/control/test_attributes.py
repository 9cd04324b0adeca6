"""Attributes of a run: derived from its event, and set by its code, live and after a replay."""

import asyncio

from stepstream import App, Context, Event, StepError, ThreadedContext, on
from tests.scenarios.conftest import EngineOf


async def test_attributes_are_those_that_the_code_set_last(engine_of: EngineOf) -> None:
    """The code changes attributes between steps; a replay, which runs it again, does not bring earlier values back."""
    app = App("attributes")

    @app.function(on("order"), attributes={"order_id": "event.data.id", "total": "event.data.total"})
    async def fulfil(ctx: Context) -> str:
        ctx.set_attributes(stage="charging")
        charged = await ctx.step.run("charge", lambda: "c-1")
        ctx.set_attributes({"charge-id": charged}, stage="waiting")
        await ctx.step.wait_for_event("shipped", event="shipped", timeout="1h")
        ctx.set_attributes(stage="shipped", total=None)
        return await ctx.step.run("thank", lambda: "done")

    async with engine_of(app) as engine:
        await engine.send(Event("order", {"id": "o-1", "total": 12.5}))
        waiting = {"order_id": "o-1", "total": 12.5, "stage": "waiting", "charge-id": "c-1"}
        assert engine.run().attributes == waiting
        await engine.send(Event("shipped"))
        run = engine.run()
        assert run.attributes == {"order_id": "o-1", "stage": "shipped", "charge-id": "c-1"}
        assert (run.status, run.output) == ("completed", "done")


async def test_a_plain_function_sets_attributes(engine_of: EngineOf) -> None:
    """The code of a plain function, which runs in a thread, sets attributes in its order."""
    app = App("attributes")

    @app.function(on("order"))
    def fulfil(ctx: ThreadedContext) -> str:
        for stage in ("new", "charging"):
            ctx.set_attributes(stage=stage)
        ctx.step.run("charge", lambda: 1)
        ctx.set_attributes(stage="sleeping")
        ctx.step.sleep("cool off", "1m")
        ctx.set_attributes(stage="done", ok=True)
        return "done"

    async with engine_of(app) as engine:
        await engine.send(Event("order"))
        assert engine.run().attributes == {"stage": "sleeping"}
        await engine.advance("1m")
        assert engine.run().attributes == {"stage": "done", "ok": True}


async def test_a_replayed_thread_leaves_its_attributes_to_the_event_loop(engine_of: EngineOf) -> None:
    """The event loop reports what is pending when the thread takes its last stored result."""
    app, loop = App("attributes"), asyncio.get_running_loop()

    @app.function(on("order"))
    def fulfil(ctx: ThreadedContext) -> str:
        ctx.set_attributes(stage="new")
        asyncio.run_coroutine_threadsafe(asyncio.sleep(0), loop).result()
        ctx.step.sleep("cool off", "1m")
        ctx.step.sleep("warm up", "1m")
        return "done"

    async with engine_of(app) as engine:
        await engine.send(Event("order"))
        await engine.advance("2m")
        run = engine.run()
        assert (run.output, run.attempt, run.attributes) == ("done", 0, {"stage": "new"})


async def test_wrong_attributes_fail_where_they_are_set(engine_of: EngineOf) -> None:
    """A value that is not a scalar fails the code with the name; a body of a step cannot set attributes."""
    app = App("attributes")

    @app.function(on("value"), retries=0)
    async def value(ctx: Context) -> None:
        ctx.set_attributes(order=["o-1"])

    @app.function(on("body"), retries=0)
    async def body(ctx: Context) -> None:
        try:
            await ctx.step.run("charge", lambda: ctx.set_attributes(order=1))
        except StepError as error:
            ctx.set_attributes(error=str(error))
            raise

    async with engine_of(app) as engine:
        await engine.send(Event("value"), Event("body"))
        by_function = {run.function: run for run in engine.runs()}
        assert "order" in str(by_function["value"].error)
        assert "not list" in str(by_function["value"].error)
        assert "in the body of a step" in str(by_function["body"].attributes)
