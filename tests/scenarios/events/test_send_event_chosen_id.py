"""An id that the user gave to an event deduplicates it, whether a step or a client sends it."""

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


async def test_an_id_deduplicates_events_of_steps_and_clients(engine_of: EngineOf) -> None:
    """Two runs that send an event of one id start its function once, and so does the same event from outside."""
    app = App("sending")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        return await ctx.step.send_event("send", [Event("child", id="order-1"), Event("child")])

    @app.function(on("child"))
    async def child(ctx: Context) -> object:
        return ctx.event.id

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        await engine.send(Event("go"), Event("child", id="order-1"))
        outputs = [run.output for run in engine.runs("child")]
        assert outputs.count("order-1") == 1
        assert len(set(map(str, outputs))) == len(outputs) == 3
        await engine.advance("24h")
        await engine.send(Event("go"))
        assert [run.output for run in engine.runs("child")].count("order-1") == 2
