"""Cancelling a run ends it at once, in whatever state it is, and leaves nothing behind."""

import asyncio

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.events import event_record
from tests.scenarios.conftest import EngineOf


async def test_a_scheduled_run_is_cancelled_before_it_starts(engine_of: EngineOf) -> None:
    """A run that is scheduled for later is cancelled and never starts."""
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


@pytest.mark.log
async def test_cancelling_stops_a_running_body(engine_of: EngineOf) -> None:
    """A body in flight is stopped with its run, and its result is discarded."""
    app = App("cancel")
    began, stopped = asyncio.Event(), asyncio.Event()
    after: list[str] = []

    async def body() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

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
        async with asyncio.timeout(30):
            await stopped.wait()
        await engine.until_idle()
        assert engine.run().status == "cancelled"
    assert after == []


async def test_cancelling_drops_the_next_attempt(engine_of: EngineOf) -> None:
    """A run between two attempts of a step is cancelled for a reason, and the next attempt never starts."""
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
        assert await engine.cancel(engine.run().run_id, why="a wrong order")
        await engine.advance("5h")
        cancelled = engine.run()
        assert cancelled.status == "cancelled"
        assert isinstance(cancelled.error, dict)
        assert cancelled.error["message"] == "the run was cancelled by test: a wrong order"
    assert attempts == [1]


async def test_an_ended_run_cannot_be_cancelled(engine_of: EngineOf) -> None:
    """Cancelling a run that has ended, or never existed, returns False."""
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
