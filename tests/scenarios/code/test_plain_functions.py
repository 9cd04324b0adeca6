"""Plain `def` functions run in threads, with every step."""

import threading

from stepstream import App, Context, Event, StepError, ThreadedContext, on
from tests.scenarios.conftest import EngineOf


async def test_a_plain_function_has_every_step(engine_of: EngineOf) -> None:
    """A plain function calls each kind of step without await, and suspends and resumes as an async one does."""
    app = App("plain")

    @app.function()
    def double(ctx: ThreadedContext) -> int:
        return int(ctx.event.data["n"]) * 2

    @app.function(on("go"))
    def function(ctx: ThreadedContext) -> list[object]:
        ran = ctx.step.run("run", abs, -1)
        ctx.step.sleep("sleep", "1h")
        ctx.step.sleep_until("until", "2001-01-01")
        event = ctx.step.wait_for_event("wait", event="answer", match="data.id", timeout="1d")
        signal = ctx.step.wait_for_signal("signal", signal="approve", timeout="1d")
        ids = ctx.step.send_event("send", Event("other", id="mine"))
        doubled = ctx.step.invoke("double", function=double, data={"n": 21})
        late = ctx.step.wait_for_event("late", event="never", timeout="1s")
        return [ran, event.data["n"] if event else None, signal, ids, doubled, late]

    async with engine_of(app) as engine:
        await engine.send(Event("go", {"id": 1}))
        await engine.advance("1h")
        await engine.send(Event("answer", {"id": 1, "n": 5}))
        assert await engine.signal("approve", "yes")
        await engine.advance("1s")
        assert engine.run("function").output == [1, 5, "yes", ["mine"], 42, None]


async def test_a_plain_function_runs_in_a_thread(engine_of: EngineOf) -> None:
    """Neither a plain function nor a plain body runs in the thread of the event loop."""
    app = App("plain")
    loops = threading.get_ident()

    @app.function(on("go"))
    def function(ctx: ThreadedContext) -> list[bool]:
        return [threading.get_ident() != loops, ctx.step.run("body", lambda: threading.get_ident() != loops)]

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == [True, True]


async def test_a_plain_function_may_catch_step_errors(engine_of: EngineOf) -> None:
    """A step out of attempts raises StepError, after which a plain function may continue."""
    app = App("plain")
    attempts: list[int] = []

    def broken() -> None:
        attempts.append(1)
        raise ValueError("no")

    @app.function(on("go"), retries=2, backoff="1s")
    def function(ctx: ThreadedContext) -> str:
        try:
            ctx.step.run("broken", broken)
        except StepError as error:
            return f"{error.name} after {len(attempts)}"
        return "never"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        assert engine.run().output == "ValueError after 3"


async def test_an_async_function_may_have_plain_bodies(engine_of: EngineOf) -> None:
    """An async function may have plain and async bodies."""
    app = App("plain")

    async def late(number: int) -> int:
        return number

    @app.function(on("go"))
    async def function(ctx: Context) -> int:
        return await ctx.step.run("plain", abs, -1) + await ctx.step.run("async", late, 2)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == 3
