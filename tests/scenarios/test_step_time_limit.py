"""step.options(timeout=) bounds one attempt of a step."""

import asyncio

from stepstream import App, Context, Event, StepError, on
from tests.scenarios.conftest import EngineOf


async def test_a_step_may_have_a_time_limit(engine_of: EngineOf) -> None:
    """step.options(timeout=) ends an attempt that takes too long."""
    app = App("failure")

    async def endless() -> None:
        await app_never.wait()

    app_never = asyncio.Event()

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        try:
            await ctx.step.options(retries=0, timeout=0.01).run("step", endless)
        except StepError as error:
            return error.name
        return "never"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == "TimeoutError"
