"""The caller of `invoke` always gets an answer: a result, a failure, a time-out or a cancellation."""

import asyncio

import pydantic
import pytest

from stepstream import App, Context, Event, StepError, on
from tests.scenarios.conftest import EngineOf


@pytest.mark.log
async def test_invoke_returns_the_result_or_its_error(engine_of: EngineOf) -> None:
    """The callee's failure is a catchable StepError; an unknown function is one, too."""
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
        for step, name in (("broken", "broken"), ("unknown", "missing"), ("slow", "endless")):
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
            "function-not-found: no function 'missing' is registered",
            "invoke-timeout: the invoked function did not end in time",
        ]
        assert engine.run("endless").status == "running"
    assert attempts == [1]


async def test_a_cancelled_callee_answers(engine_of: EngineOf) -> None:
    """The caller of a run that is cancelled gets a StepError."""
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


class Price(pydantic.BaseModel):
    """What the callee returns."""

    amount: int


async def test_the_result_has_the_type_of_the_function(engine_of: EngineOf) -> None:
    """A model that the function declares comes back as one."""
    app = App("messages")

    @app.function()
    async def price(ctx: Context) -> Price:
        return Price(amount=int(ctx.event.data["n"]))

    @app.function(on("go"))
    async def function(ctx: Context) -> int:
        found = await ctx.step.invoke("price", function=price, data={"n": 7})
        await ctx.step.sleep("nap", "1h")
        return found.amount

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        assert engine.run("function").output == 7


async def test_the_callee_retries_and_the_caller_does_not(engine_of: EngineOf) -> None:
    """The callee has its own attempts; its failure is a catchable StepError that the caller does not retry."""
    app = App("messages")
    attempts: list[int] = []

    @app.function(retries=2, backoff="1m")
    async def flaky(ctx: Context) -> str:
        attempts.append(ctx.attempt)
        raise ValueError("no")

    @app.function(on("go"), retries=4, backoff="1m")
    async def function(ctx: Context) -> str:
        try:
            return await ctx.step.invoke("call", function=flaky)
        except StepError as error:
            return f"{error.code}: {error.name}: {error.message}"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("119s")
        assert engine.run("function").status == "running"
        await engine.advance("1h")
        assert engine.run("function").output == "invoked-run-failed: ValueError: no"
        assert len(engine.runs("flaky")) == 1
    assert attempts == [0, 1, 2]


async def test_the_default_timeout_of_invoke_is_a_year(engine_of: EngineOf) -> None:
    """On timeout the caller gets a StepError, and the callee continues."""
    app = App("messages")

    @app.function()
    async def endless(ctx: Context) -> str:
        await ctx.step.sleep("most-of-it", "366d")
        return "at last"

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        try:
            return await ctx.step.invoke("call", function=endless)
        except StepError as error:
            return error.code

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("364d")
        assert engine.run("function").status == "running"
        await engine.advance("1d")
        assert engine.run("function").output == "invoke-timeout"
        await engine.advance("1d")
        assert engine.run("endless").output == "at last"


async def test_a_callee_outlives_a_cancelled_caller(engine_of: EngineOf) -> None:
    """The callee of a run that was cancelled continues, and its answer has no effect."""
    app = App("messages")

    @app.function()
    async def callee(ctx: Context) -> str:
        await ctx.step.sleep("nap", "1h")
        return "done"

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        return await ctx.step.invoke("call", function=callee)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.cancel(engine.run("function").run_id)
        await engine.advance("1h")
        assert engine.run("callee").output == "done"
        assert engine.run("function").status == "cancelled"
