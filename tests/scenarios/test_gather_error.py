"""An error among parallel steps reaches the function as asyncio would bring it."""

import asyncio

from stepstream import App, Context, Event, StepError, on
from tests.scenarios.conftest import EngineOf


async def test_an_error_in_a_gather_is_raised_at_once(engine_of: EngineOf) -> None:
    """The error of one step reaches the function before the others are done."""
    app = App("parallel")

    def broken() -> None:
        raise ValueError("no")

    @app.function(on("go"), retries=0)
    async def function(ctx: Context) -> str:
        try:
            await asyncio.gather(ctx.step.run("broken", broken), ctx.step.sleep("nap", "7d"))
        except StepError as error:
            return error.step_id
        return "never"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == "broken"
