"""Runs that wait on external work: they continue even when their worker dies."""

import asyncio
import threading
from typing import Any

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.events import event_record
from stepstream.sdk.replay import replay
from stepstream.testing import Crash, VirtualEngine
from tests.fakes.waiting import until


def waiting_app(ready: asyncio.Event) -> App:
    """Return an app with a function that waits for `ready` between two steps, and another that may set it."""
    app = App("shop")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        await ctx.step.sleep("nap", "1m")
        await ready.wait()
        return await ctx.step.run("call", lambda: "called")

    @app.function(on("other"))
    async def other(ctx: Context) -> None:
        await ctx.step.run("work", ready.set if ctx.event.data.get("sets") else lambda: None)

    return app


async def test_a_detached_run_survives_its_worker() -> None:
    """Its command is not acknowledged, however many others are, so the next worker starts its code again."""
    ready = asyncio.Event()
    async with VirtualEngine(waiting_app(ready), crashes=[Crash("worker", "before", "work")]) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        await engine.send(Event("unmatched"))
        ready.set()
        await engine.send(*[Event("other")] * 2)
        assert {run.status for run in engine.runs()} == {"completed"}


async def test_a_detached_run_is_not_evicted() -> None:
    """A full cache evicts runs that a step wakes; no step wakes this one."""
    ready = asyncio.Event()
    async with VirtualEngine(waiting_app(ready), runs_cached_max=1, runs_active_max=3) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        await engine.send(*[Event("go")] * 3)
        await engine.send(Event("other", {"sets": True}))
        await engine.advance("1m")
        assert [run.status for run in engine.runs()] == ["completed"] * 5


async def test_detached_runs_are_bounded() -> None:
    """They need no slot, so that the run they wait for may start, but no more of them start than fit in memory."""
    app = App("shop")
    ready = asyncio.Event()
    running: list[str] = []

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        running.append(ctx.run_id)
        await ready.wait()

    async with VirtualEngine(app, runs_cached_max=2, runs_active_max=1) as engine:
        await engine.engine.send([event_record("go")] * 5)
        await until(lambda: len(running) == 3 and engine.engine.loads()["shop"].queued == 2)
        ready.set()
        await engine.until_idle()
        assert {run.status for run in engine.runs()} == {"completed"}


@pytest.mark.parametrize("live_cache", [True, False])
async def test_a_parked_run_that_continues_by_itself_survives_its_worker(live_cache: bool) -> None:
    """It cancels its only open step, or leaves one that is due much later, and its worker dies in a step after that.

    The engine wakes it although all its commands were acknowledged.
    """
    app = App("shop")
    ready = asyncio.Event()

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        far = asyncio.ensure_future(ctx.step.sleep("far", "300d"))
        deadline = asyncio.ensure_future(ctx.step.sleep("deadline", "1h"))
        given = asyncio.ensure_future(ready.wait())
        await asyncio.wait({deadline, given}, return_when=asyncio.FIRST_COMPLETED)
        deadline.cancel()
        await ctx.step.run("first", lambda: None)
        stored = await ctx.step.run("store", lambda: "stored")
        far.cancel()
        return stored

    @app.function(on("other"))
    async def other(ctx: Context) -> None:
        await ctx.step.run("work", lambda: None)

    async with VirtualEngine(app, live_cache=live_cache, crashes=[Crash("worker", "before", "store")]) as engine:
        await engine.send(Event("go"))
        await engine.send(*[Event("other")] * 2)
        ready.set()
        if not live_cache:
            await engine.advance("1h")
        await until(lambda: engine.run(function).status == "completed")
        await engine.until_idle()
        assert engine.run(function).output == "stored"
        assert not engine.run(function).warnings


@pytest.mark.parametrize("live_cache", [True, False])
async def test_a_long_call_beside_a_deadline(monkeypatch: pytest.MonkeyPatch, live_cache: bool) -> None:
    """It releases its slot after a while, but is neither dropped nor forgotten when its worker is restarted."""
    monkeypatch.setattr(replay, "DETACH_AFTER_S", 0.05)
    app = App("shop")
    answered = threading.Event()

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        deadline: asyncio.Future[Any] = asyncio.ensure_future(ctx.step.sleep("deadline", "300d"))
        call: asyncio.Future[Any] = asyncio.get_running_loop().run_in_executor(None, answered.wait, 20)
        await asyncio.wait({deadline, call}, return_when=asyncio.FIRST_COMPLETED)
        deadline.cancel()
        return await ctx.step.run("store", lambda: "stored")

    @app.function(on("other"))
    async def other(ctx: Context) -> None:
        await ctx.step.run("work", lambda: None)

    async with VirtualEngine(app, live_cache=live_cache, crashes=[Crash("worker", "before", "work")]) as engine:
        await engine.send(Event("go"))
        await engine.send(*[Event("other")] * 2)
        answered.set()
        await until(lambda: engine.run(function).status == "completed")


async def test_a_call_that_never_ends_does_not_block_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a longer while only the open step wakes the run, and its command is acknowledged."""
    monkeypatch.setattr(replay, "DETACH_AFTER_S", 0.0)
    monkeypatch.setattr(replay, "SUSPEND_AFTER_S", 0.1)
    app = App("shop")
    dropped: list[asyncio.Future[None]] = []

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        call = asyncio.get_running_loop().create_future()
        try:
            await asyncio.gather(call, ctx.step.sleep("nap", "1h"))
        finally:
            dropped.append(call)

    async with VirtualEngine(app, live_cache=False) as engine:
        await engine.send(Event("go"))
        await until(lambda: dropped)
        assert engine.run().status == "running"
