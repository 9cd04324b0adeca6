"""Cancelling one run: it ends at once, in whatever state it is, and leaves nothing behind."""

import asyncio

from stepstream import App, Context, Event, on
from stepstream.contract.events import event_record
from tests.scenarios.conftest import EngineOf


async def test_a_run_that_has_not_begun(engine_of: EngineOf) -> None:
    """A run that is scheduled for later is cancelled and never begins."""
    app = App("cancel")
    entries: list[int] = []

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        entries.append(1)

    async with engine_of(app) as engine:
        await engine.send(Event("go", ts=engine.now_ms + 3_600_000))
        assert await engine.cancel(engine.run().run_id)
        await engine.advance("2h")
        assert engine.run().status == "cancelled"
    assert entries == []


async def test_a_run_whose_body_is_at_work(engine_of: EngineOf) -> None:
    """A body in flight is stopped with its run; its result is wanted no more."""
    app = App("cancel")
    began, done = asyncio.Event(), asyncio.Event()
    after: list[str] = []

    async def body() -> None:
        began.set()
        await done.wait()
        after.append("body")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.run("long", body)
        after.append("code")

    async with engine_of(app) as engine:
        await engine.engine.send([event_record("go")])
        await began.wait()
        run_id = engine.index.list()[0].run_id if engine.index.list() else ""
        while not run_id:
            await asyncio.sleep(0)
            run_id = engine.index.list()[0].run_id if engine.index.list() else ""
        assert await engine.cancel(run_id)
        done.set()
        await engine.until_idle()
        assert engine.run().status == "cancelled"
    assert after == []


async def test_a_run_that_waits_for_an_attempt(engine_of: EngineOf) -> None:
    """A run between two attempts of a step is cancelled, and the attempt never comes."""
    app = App("cancel")
    attempts: list[int] = []

    def body() -> None:
        attempts.append(1)
        raise ValueError("no")

    @app.function(on("go"), backoff="1h")
    async def function(ctx: Context) -> None:
        await ctx.step.run("step", body)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert await engine.cancel(engine.run().run_id)
        await engine.advance("5h")
        assert engine.run().status == "cancelled"
    assert attempts == [1]


async def test_an_ended_run_cannot_be_cancelled(engine_of: EngineOf) -> None:
    """Cancelling a run that ended, or that never was, says that it was not there."""
    app = App("cancel")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        return "done"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        run_id = engine.run().run_id
        assert not await engine.cancel(run_id)
        assert not await engine.cancel("0" * 26)
        assert engine.run().status == "completed"
