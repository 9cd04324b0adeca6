"""A run can be cancelled at any point of its life; its on_failure handler is not called."""

import asyncio
import threading

import pytest

from stepstream import App, Context, Event, ThreadedContext, on
from stepstream.sdk.event import to_record
from stepstream.testing import RunView, VirtualEngine
from tests.fakes.waiting import until
from tests.scenarios.conftest import EngineOf


async def listed(engine: VirtualEngine) -> RunView:
    """Return the only run as soon as the read model has it; its code is running, so the engine is not idle."""
    await until(engine.runs)
    return engine.run()


async def test_a_scheduled_run_never_starts(engine_of: EngineOf) -> None:
    """A run whose event lies in the future is cancelled before its first line, and does not start at its time."""
    app = App("cancel")
    entries: list[str] = []

    async def handler(ctx: Context) -> None:
        entries.append("handler")

    @app.function(on("go"), on_failure=handler)
    async def function(ctx: Context) -> None:
        entries.append("function")

    async with engine_of(app) as engine:
        await engine.send(Event("go", ts=engine.now_ms + 3_600_000))
        run = engine.run("function")
        assert run.status == "scheduled"
        assert await engine.cancel(run.run_id)
        await engine.advance("2h")
        run = engine.run("function")
        assert (run.status, run.steps) == ("cancelled", ())
        assert not await engine.cancel(run.run_id)
    assert entries == []


@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_a_running_body_is_stopped_or_its_result_dropped(engine_of: EngineOf, kind: str) -> None:
    """The run ends at once; its body is stopped or its result dropped, and no further step starts."""
    app = App("cancel")
    begun, may_end, thread_may_end = asyncio.Event(), asyncio.Event(), threading.Event()
    done: list[str] = []
    loop = asyncio.get_running_loop()

    async def handler(ctx: Context) -> None:
        done.append("handler")

    async def work() -> None:
        begun.set()
        await may_end.wait()
        done.append("async body")

    def work_in_thread() -> str:
        loop.call_soon_threadsafe(begun.set)
        return str(thread_may_end.wait(30))

    @app.function(on("go"), on_failure=handler)
    async def function(ctx: Context) -> None:
        if kind == "async":
            await ctx.step.run("work", work)
        else:
            await ctx.step.run("work", work_in_thread)
        done.append("code after the step")

    async with engine_of(app) as engine:
        await engine.engine.send([to_record(Event("go"))])
        await begun.wait()
        run = await listed(engine)
        assert await engine.cancel(run.run_id)
        may_end.set()
        thread_may_end.set()
        await engine.advance("1d")
        assert [(run.function, run.status, run.steps) for run in engine.runs()] == [("function", "cancelled", ())]
    assert done == []


async def test_no_attempt_follows_a_cancellation(engine_of: EngineOf) -> None:
    """A run that waits for the next attempt of a step, or of the code between steps, makes no further attempt."""
    app = App("cancel")
    attempts: list[str] = []

    async def handler(ctx: Context) -> None:
        attempts.append("handler")

    @app.function(on("go"), on_failure=handler, backoff="1m")
    async def function(ctx: Context) -> None:
        def fail() -> None:
            attempts.append(str(ctx.event.data["where"]))
            raise ValueError("no")

        if ctx.event.data["where"] == "code":
            fail()
        await ctx.step.run("step", fail)

    async with engine_of(app) as engine:
        await engine.send(Event("go", {"where": "code"}), Event("go", {"where": "step"}))
        for run in engine.runs():
            assert await engine.cancel(run.run_id)
        await engine.advance("1d")
        assert [run.status for run in engine.runs()] == ["cancelled", "cancelled"]
    assert sorted(attempts) == ["code", "step"]


async def test_nothing_wakes_a_cancelled_run(engine_of: EngineOf) -> None:
    """After the end neither the event, the signal, the callee nor the time that the run waited for has an effect."""
    app = App("cancel")
    done: list[str] = []

    @app.function()
    async def callee(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1h")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.group.race(
            ctx.step.wait_for_event("event", event="answer", timeout="1d"),
            ctx.step.wait_for_signal("signal", signal="answer", timeout="1d"),
            ctx.step.invoke("call", function=callee),
            ctx.step.sleep("nap", "2h"),
        )
        done.append("code after the race")

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert await engine.cancel(engine.run("function").run_id)
        await engine.send(Event("answer"))
        assert not await engine.signal("answer")
        await engine.advance("2d")
        run = engine.run("function")
        assert run.status == "cancelled"
        assert engine.run("callee").status == "completed"
        assert all(step.status != "completed" for step in run.steps)
    assert done == []


@pytest.mark.parametrize("body", ["async", "plain"])
async def test_a_cancelled_thread_ends_at_its_step(engine_of: EngineOf, body: str) -> None:
    """The thread of a plain function does not continue after the step in which its run was cancelled."""
    app = App("cancel")
    begun, left, may_end, thread_may_end = asyncio.Event(), asyncio.Event(), asyncio.Event(), threading.Event()
    done: list[str] = []
    loop = asyncio.get_running_loop()

    async def work() -> None:
        begun.set()
        await may_end.wait()

    def work_in_thread() -> None:
        loop.call_soon_threadsafe(begun.set)
        thread_may_end.wait(30)

    @app.function(on("go"))
    def function(ctx: ThreadedContext) -> None:
        try:
            if body == "async":
                ctx.step.run("work", work)
            else:
                ctx.step.run("work", work_in_thread)
        except Exception as error:  # noqa: BLE001 - no error may reach the code
            done.append(type(error).__name__)
        finally:
            loop.call_soon_threadsafe(left.set)
        done.append("code after the step")

    async with engine_of(app) as engine:
        await engine.engine.send([to_record(Event("go"))])
        await begun.wait()
        assert await engine.cancel((await listed(engine)).run_id)
        may_end.set()
        thread_may_end.set()
        await engine.advance("1d")
        await left.wait()
        assert (engine.run().status, engine.run().steps) == ("cancelled", ())
    assert done == []


async def test_a_cancelled_thread_ends_at_its_next_step(engine_of: EngineOf) -> None:
    """A thread in its own code when its run is cancelled ends at its next step, which does not start."""
    app = App("cancel")
    begun, left, may_continue = asyncio.Event(), asyncio.Event(), threading.Event()
    done: list[str] = []
    loop = asyncio.get_running_loop()

    @app.function(on("go"))
    def function(ctx: ThreadedContext) -> None:
        loop.call_soon_threadsafe(begun.set)
        may_continue.wait(30)
        try:
            ctx.step.run("work", done.append, "body")
        except Exception as error:  # noqa: BLE001 - no error may reach the code
            done.append(type(error).__name__)
        finally:
            loop.call_soon_threadsafe(left.set)
        done.append("code after the step")

    async with engine_of(app) as engine:
        await engine.engine.send([to_record(Event("go"))])
        await begun.wait()
        assert await engine.cancel((await listed(engine)).run_id)
        may_continue.set()
        await left.wait()
        await engine.advance("1d")
        assert (engine.run().status, engine.run().steps) == ("cancelled", ())
    assert done == []
