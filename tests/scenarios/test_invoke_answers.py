"""The caller of `invoke` is always answered: result, failure, unknown function, time-out, cancellation."""

import asyncio

from stepstream import App, Context, Event, StepError, on
from tests.scenarios.conftest import EngineOf


async def test_invoke_returns_the_result_or_its_error(engine_of: EngineOf) -> None:
    """The callee's failure is a catchable StepError; unknown functions and cancelled ones answer too."""
    app = App("messages")
    attempts: list[int] = []

    @app.function()
    async def double(ctx: Context) -> int:
        return int(ctx.event.data["n"]) * 2

    @app.function(retries=0)
    async def broken(ctx: Context) -> None:
        attempts.append(1)
        raise ValueError("no")

    @app.function()
    async def endless(ctx: Context) -> None:
        await ctx.step.sleep("nap", "7d")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[object]:
        found: list[object] = [await ctx.step.invoke("double", function=double, data={"n": 21})]
        for step, name in (("broken", "broken"), ("unknown", "nobody"), ("slow", "endless")):
            try:
                found.append(await ctx.step.invoke(step, function=name, timeout="1h"))
            except StepError as error:
                found.append(f"{error.code}: {error.message}")
        return found

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("2h")
        assert engine.run("function").output == [
            42,
            "invoked-run-failed: no",
            "function-not-found: no function 'nobody' is registered",
            "invoke-timeout: the invoked function did not end in time",
        ]
        assert engine.run("endless").status == "running"
    assert attempts == [1]


async def test_a_cancelled_callee_answers(engine_of: EngineOf) -> None:
    """The caller of a cancelled run is answered with a typed error."""
    app = App("messages")

    @app.function()
    async def endless(ctx: Context) -> None:
        await ctx.step.sleep("nap", "7d")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        try:
            await asyncio.gather(ctx.step.invoke("call", function=endless))
        except StepError as error:
            return error.code
        return "never"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.cancel(engine.run("endless").run_id)
        assert engine.run("function").output == "run-cancelled"
        assert engine.run("endless").status == "cancelled"
