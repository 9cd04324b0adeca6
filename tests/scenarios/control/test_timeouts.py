"""A run that exceeds its timeouts is cancelled; a body that is running then may end, and with it the run."""

import asyncio
from typing import Any

import pytest

from stepstream import App, Context, Event, StepError, Timeouts, on
from stepstream.contract.events import event_record
from stepstream.runtime.worker.runs.states import Phase
from stepstream.testing import VirtualEngine
from tests.fakes.waiting import until
from tests.scenarios.conftest import EngineOf

HOUR_MS = 3_600_000


class Shop:
    """An app whose function has a long body, and another step after it if the event says so."""

    def __init__(self) -> None:
        self.app = App("timeouts")
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()
        self.after: list[str] = []

        async def on_failure(ctx: Context) -> None:
            self.after.append("on_failure")

        @self.app.function(on("work"), timeouts=Timeouts(finish="1h"), on_failure=on_failure)
        async def work(ctx: Context) -> str:
            await ctx.step.run("long", self.long)
            if ctx.event.data.get("more") == "body":
                await ctx.step.run("next", lambda: self.after.append("next"))
            elif ctx.event.data.get("more") == "sleep":
                await ctx.step.sleep("nap", "1m")
            return "done"

    async def long(self) -> None:
        """Run until the test lets it end."""
        self.begun.set()
        await self.may_end.wait()


async def begin_a_body(engine: VirtualEngine, shop: Shop, more: str = "") -> None:
    """Start a run, and let its time pass while the first body is running."""
    await engine.engine.send([event_record("work", {"more": more})])
    await shop.begun.wait()
    await until(lambda: _deadlines(engine))
    engine.clock.advance_to(engine.now_ms + HOUR_MS)


async def exceed_during_a_body(engine: VirtualEngine, shop: Shop, more: str = "") -> None:
    """Start a run, let its time pass while the first body is running, and then let that end."""
    await begin_a_body(engine, shop, more)
    await until(lambda: _is_expiring(engine))
    shop.may_end.set()
    await engine.until_idle()


def _deadlines(engine: VirtualEngine) -> bool:
    """Return whether the engine knows that the run has begun: its only timer is that of the deadline."""
    return engine.engine.next_due() is not None


def _is_expired(engine: VirtualEngine) -> bool:
    """Return whether the engine has noticed that the time has passed: the next timer is that of the grace."""
    due = engine.engine.next_due()
    return due is not None and due > engine.now_ms


def _is_expiring(engine: VirtualEngine) -> bool:
    """Return whether the worker has the command for it."""
    workers = engine.engine._workers.values()
    return any(item.life.phase is Phase.EXPIRING for worker in workers for item in worker._items.values())


@pytest.mark.log
async def test_a_sleeping_run_is_cancelled_when_its_time_has_passed(engine_of: EngineOf) -> None:
    """The time counts from its first code, over sleeps and retries."""
    app = App("timeouts")
    after: list[str] = []

    @app.function(on("go"), timeouts=Timeouts(start="1m", finish="1h"))
    async def function(ctx: Context) -> None:
        await ctx.step.sleep("first", "50m")
        await ctx.step.sleep("second", "50m")
        after.append("code")

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("59m")
        assert engine.run().status == "running"
        await engine.advance("1m")
        run: Any = engine.run()
        assert run.status == "cancelled"
        assert run.error["message"] == "the run was cancelled: it did not end within 1h 0m"
        await engine.advance("2h")
    assert after == []


async def test_a_run_that_ends_in_time_completes(engine_of: EngineOf) -> None:
    """Nothing of its timeouts is left, and a scheduled run has its whole time."""
    app = App("timeouts")

    @app.function(on("go"), timeouts=Timeouts(start="1m", finish="1h"))
    async def function(ctx: Context) -> str:
        await ctx.step.sleep("nap", "59m")
        return "done"

    async with engine_of(app) as engine:
        await engine.send(Event("go"), Event("go", ts=engine.now_ms + HOUR_MS))
        await engine.advance("3h")
        assert [run.output for run in engine.runs()] == ["done", "done"]
        assert engine.engine.next_due() is None


async def test_a_run_that_no_worker_starts_in_time_is_cancelled(engine_of: EngineOf) -> None:
    """Its function is paused; it never starts, and its caller gets an error."""
    app = App("timeouts")
    entries: list[str] = []

    @app.function(timeouts=Timeouts(start="10m"))
    async def child(ctx: Context) -> None:
        entries.append("child")

    @app.function(on("go"))
    async def parent(ctx: Context) -> str:
        try:
            await ctx.step.invoke("child", function=child)
        except StepError as error:
            return f"{error.code}: {error.message}"
        return "done"

    async with engine_of(app) as engine:
        await engine.pause_function("child")
        await engine.send(Event("go"))
        await engine.advance("10m")
        by_function = {run.function: run for run in engine.runs()}
        assert by_function["child"].status == "cancelled"
        expected = "run-cancelled: the run was cancelled: it did not start within 10m 0s"
        assert by_function["parent"].output == expected
        await engine.resume_function("child")
        await engine.advance("1h")
    assert entries == []


async def test_a_body_that_runs_when_the_time_has_passed_may_end_the_run(engine_of: EngineOf) -> None:
    """Its result is the last that the code needs, so the run completes."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await exceed_during_a_body(engine, shop)
        assert (engine.run().status, engine.run().output) == ("completed", "done")
    assert shop.after == []


@pytest.mark.parametrize("more", ["body", "sleep"])
async def test_no_step_follows_a_body_that_ends_after_the_time(engine_of: EngineOf, more: str) -> None:
    """The result of the body is kept, the run is cancelled, and no handler of failures runs."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await exceed_during_a_body(engine, shop, more)
        run = engine.run()
        assert run.status == "cancelled"
        assert [(step.id, step.status) for step in run.steps] == [("long", "completed")]
    assert shop.after == []


async def test_a_run_says_when_a_timeout_cancels_it(engine_of: EngineOf) -> None:
    """Before its code it is the time to start, then the time until its end; a run that has ended has none."""
    app = App("timeouts")

    @app.function(on("go"), timeouts=Timeouts(start="10m", finish="1h"))
    async def function(ctx: Context) -> None:
        await ctx.step.sleep("nap", "30m")

    async with engine_of(app) as engine:
        await engine.pause_function("function")
        await engine.send(Event("go"))
        paused, _, limit = await engine.why()
        assert (paused.code, limit.code, limit.until) == ("paused", "timeout", engine.now_ms + HOUR_MS // 6)
        assert limit.text.endswith("if its code has not started.")
        await engine.resume_function("function")
        await engine.until_idle()
        nap, limit = await engine.why()
        assert (nap.code, limit.code, limit.until) == ("sleep", "timeout", engine.now_ms + HOUR_MS)
        assert limit.text.endswith("if it has not ended.")
        await engine.advance("30m")
        assert (engine.run().status, engine.run().deadline) == ("completed", None)


async def test_an_expired_run_says_that_only_bodies_may_end(engine_of: EngineOf) -> None:
    """It also says when it is cancelled at the latest."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await begin_a_body(engine, shop)
        until_ms = engine.now_ms + 600_000

        def is_expired() -> bool:
            found: list[Any] = [engine.index.show(run.run_id) for run in engine.index.list()]
            return any(run.deadline and run.deadline["expired"] for run in found)

        await until(is_expired)
        (found,) = await engine.why()
        assert (found.code, found.until) == ("timeout", until_ms)
        assert found.text.startswith("It has exceeded its finish timeout, and waits only for the bodies")
        shop.may_end.set()
        await engine.until_idle()


async def test_a_body_that_does_not_end_is_stopped_after_a_period_of_grace(engine_of: EngineOf) -> None:
    """It may continue for ten minutes; then the run is cancelled as by a request."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await engine.engine.send([event_record("work", {})])
        await shop.begun.wait()
        await until(lambda: _deadlines(engine))
        engine.clock.advance_to(engine.now_ms + HOUR_MS)
        await until(lambda: _is_expired(engine))
        engine.clock.advance_to(engine.now_ms + 600_000)
        await until(lambda: engine.index.list()[0].status == "cancelled")
        await engine.until_idle()
    assert shop.after == []
