"""A plain `def` function has all steps, and they block its thread."""

import threading
from typing import Any

from stepstream import App, Context, Event, StepError, ThreadedContext, on
from tests.scenarios.conftest import EngineOf


def app_of_every_step(threads: set[int], bodies: list[str]) -> App:
    """Make an app whose plain function takes a step of each kind."""
    app = App("threads")

    @app.function()
    def callee(ctx: ThreadedContext) -> int:
        return int(ctx.event.data["n"]) * 2

    @app.function(on("child"))
    async def child(ctx: Context) -> object:
        return ctx.event.data["n"]

    def once(name: str) -> str:
        bodies.append(name)
        return name

    async def later(name: str) -> str:
        return once(name)

    @app.function(on("go"), retries=1, backoff="1m")
    def function(ctx: ThreadedContext) -> list[Any]:
        threads.add(threading.get_ident())
        found: list[Any] = [ctx.step.run("plain", once, "plain"), ctx.step.run("async", later, "async")]
        ctx.step.sleep("nap", "1h")
        ctx.step.sleep_until("past", "2001-01-01")
        answer = ctx.step.wait_for_event("event", event="answer", match="data.id", timeout="1h")
        found += [answer and answer.data["n"], ctx.step.wait_for_event("none", event="none", timeout="1m")]
        found += [ctx.step.wait_for_signal("signal", signal="approve", timeout="1h")]
        found += [len(ctx.step.send_event("send", [Event("child", {"n": 1}), Event("child", {"n": 2})]))]
        found += [ctx.step.invoke("call", function=callee, data={"n": 21})]
        try:
            ctx.step.options(retries=2, backoff="1s").run("broken", int, "no number")
        except StepError as error:
            found += [error.name]
        return found

    return app


async def test_steps_of_a_plain_function_return_once(engine_of: EngineOf) -> None:
    """Each step returns its result once, however often the code is entered, and never in the thread of the loop."""
    threads: set[int] = set()
    bodies: list[str] = []
    async with engine_of(app_of_every_step(threads, bodies)) as engine:
        await engine.send(Event("go", {"id": 7}))
        await engine.advance("1h")
        await engine.send(Event("answer", {"id": 7, "n": 70}))
        await engine.advance("1m")
        assert await engine.signal("approve", {"by": "ann"})
        await engine.advance("1m")
        run = engine.run("function")
        assert run.output == ["plain", "async", 70, None, {"by": "ann"}, 2, 42, "ValueError"]
        assert {step.id: step.attempts for step in run.steps}["broken"] == 3
        assert sorted(str(run.output) for run in engine.runs("child")) == ["1", "2"]
    assert bodies == ["plain", "async"]
    assert threading.get_ident() not in threads


async def test_the_code_of_a_plain_function_is_retried(engine_of: EngineOf) -> None:
    """The code between its steps has attempts, and its result is JSON or the error of the run."""
    app = App("threads")
    attempts: list[int] = []

    @app.function(on("go"), retries=2, backoff="1m")
    def function(ctx: ThreadedContext) -> str:
        attempts.append(ctx.attempt)
        done = ctx.step.run("step", lambda: "done")
        if ctx.attempt < 2:
            raise ValueError("flaky")
        return done

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        assert engine.run().output == "done"
    assert attempts == [0, 1, 2]
