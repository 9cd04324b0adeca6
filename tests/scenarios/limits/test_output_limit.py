"""4 MiB for one step's output: a catchable error, after which the body does not run again."""

import pytest

from stepstream import App, Context, Event, StepError, StepstreamError, on
from stepstream.contract.limits import Limits
from tests.scenarios.conftest import EngineOf


async def test_an_output_over_the_limit_is_not_retried(engine_of: EngineOf) -> None:
    """It is a catchable error, and the body does not run again."""
    app = App("limits")
    bodies: list[int] = []

    def large() -> str:
        bodies.append(1)
        return "x" * 101

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        try:
            await ctx.step.run("large", large)
        except StepError as error:
            return error.code
        return "never"

    async with engine_of(app, limits=Limits(step_output_bytes_max=100)) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == "output-too-large"
    assert bodies == [1]


async def test_an_output_of_a_function_over_the_limit_fails_it(engine_of: EngineOf) -> None:
    """The output of a function has the same limit; beyond it the run fails without retry."""
    app = App("limits")
    entries: list[int] = []

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        entries.append(1)
        return "x" * 200

    async with engine_of(app, limits=Limits(step_output_bytes_max=100)) as engine:
        await engine.send(Event("go"))
        run = engine.run()
        assert run.status == "failed"
        assert "202 bytes" in str(run.error)
    assert entries == [1]


@pytest.mark.parametrize(("data", "word"), [({"text": "x" * 200}, "at most 100"), ([1], "must be a JSON object")])
async def test_data_of_invoke_is_bounded(engine_of: EngineOf, data: object, word: str) -> None:
    """The data of invoke is that of an event: an object of a bounded size, refused at the call."""
    app = App("limits")

    @app.function(on("go"), retries=0)
    async def function(ctx: Context) -> str:
        try:
            await ctx.step.invoke("call", function="other", data=data)
        except StepstreamError as error:
            return str(error)
        return "never"

    async with engine_of(app, limits=Limits(event_bytes_max=100)) as engine:
        await engine.send(Event("go"))
        assert word in str(engine.run().output)
