"""Runs that wait for something that is no step: whatever becomes of their worker, they go on."""

import asyncio
import threading
from typing import Any

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.events import event_record
from stepstream.sdk import quiet
from stepstream.testing import Crash, VirtualEngine
from tests.fakes.waiting import until


def waiting_app(turn: asyncio.Event) -> App:
    """Make an app whose function waits for its turn between two steps, beside others that come and go."""
    app = App("shop")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        await ctx.step.sleep("nap", "1m")
        await turn.wait()
        return await ctx.step.run("call", lambda: "called")

    @app.function(on("other"))
    async def other(ctx: Context) -> None:
        await ctx.step.run("work", turn.set if ctx.event.data.get("gives") else lambda: None)

    return app


async def test_a_run_that_waits_for_its_turn_outlives_its_worker() -> None:
    """Its command is not dealt with, however many others are, so the next worker begins its code again."""
    turn = asyncio.Event()
    async with VirtualEngine(waiting_app(turn), crashes=[Crash("worker", "before", "work")]) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        await engine.send(Event("nobody"))
        turn.set()
        await engine.send(*[Event("other")] * 2)
        assert {run.status for run in engine.runs()} == {"completed"}


async def test_a_run_that_waits_for_its_turn_is_not_evicted() -> None:
    """A full cache drops runs that their steps wake; this one nothing would wake."""
    turn = asyncio.Event()
    async with VirtualEngine(waiting_app(turn), runs_cached_max=1, runs_active_max=3) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        await engine.send(*[Event("go")] * 3)
        await engine.send(Event("other", {"gives": True}))
        await engine.advance("1m")
        assert [run.status for run in engine.runs()] == ["completed"] * 5


async def test_runs_that_linger_are_bounded() -> None:
    """Those that wait for their turn need no slot, so that who gives it may begin; but no more come than memory has."""
    app = App("shop")
    turn = asyncio.Event()
    begun: list[str] = []

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        begun.append(ctx.run_id)
        await turn.wait()

    async with VirtualEngine(app, runs_cached_max=2, runs_active_max=1) as engine:
        await engine.engine.send([event_record("go")] * 5)
        await until(lambda: len(begun) == 3 and engine.engine.loads()["shop"].queued == 2)
        turn.set()
        await engine.until_idle()
        assert {run.status for run in engine.runs()} == {"completed"}


@pytest.mark.parametrize("live_cache", [True, False])
async def test_code_that_rested_goes_on_by_itself_and_loses_its_worker(live_cache: bool) -> None:
    """It takes its only open step away, or leaves one that is far off, and runs others, in the middle of which its
    worker dies: the engine wakes it although all its commands were dealt with."""
    app = App("shop")
    turn = asyncio.Event()

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        far = asyncio.ensure_future(ctx.step.sleep("far", "300d"))
        deadline = asyncio.ensure_future(ctx.step.sleep("deadline", "1h"))
        given = asyncio.ensure_future(turn.wait())
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
        turn.set()
        if not live_cache:
            await engine.advance("1h")
        await until(lambda: engine.run(function).status == "completed")
        await engine.until_idle()
        assert engine.run(function).output == "stored"
        assert not engine.run(function).warnings


@pytest.mark.parametrize("live_cache", [True, False])
async def test_a_long_call_beside_a_deadline(monkeypatch: pytest.MonkeyPatch, live_cache: bool) -> None:
    """It gives its slot up after a while, but is neither dropped nor forgotten by a worker that comes up anew."""
    monkeypatch.setattr(quiet, "PATIENCE_S", 0.05)
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


async def test_a_call_that_takes_for_ever_does_not_hold_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a longer while the open step alone is to wake the run, and its command is dealt with."""
    monkeypatch.setattr(quiet, "PATIENCE_S", 0.0)
    monkeypatch.setattr(quiet, "HOLD_S", 0.1)
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
