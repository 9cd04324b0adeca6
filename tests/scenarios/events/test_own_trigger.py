"""A run's own trigger event never wakes it."""

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


async def test_the_own_trigger_never_wakes_the_run(engine_of: EngineOf) -> None:
    """The event that started a run does not end its wait for that name."""
    app = App("waits")

    @app.function(on("ping"))
    async def function(ctx: Context) -> object:
        return await ctx.step.wait_for_event("again", event="ping", timeout="1h") is not None

    async with engine_of(app) as engine:
        await engine.send(Event("ping"))
        assert engine.run().status == "running"
        await engine.advance("1h")
        assert engine.run().output is False
