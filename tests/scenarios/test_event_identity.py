"""An event with an id starts each function at most once in 24 h; without, its log position is its identity."""

from stepstream import Context, Event, on
from tests.scenarios.apps import counting_app
from tests.scenarios.conftest import EngineOf


async def test_an_explicit_id_starts_a_function_once_a_day(engine_of: EngineOf) -> None:
    """An event with an id starts each function at most once in 24 h, also after the run has ended."""
    async with engine_of(counting_app()) as engine:
        for _ in range(2):
            await engine.send(Event("go", id="order-1"))
        await engine.advance("23h")
        await engine.send(Event("go", id="order-1"))
        assert len(engine.runs()) == 1
        await engine.advance("2h")
        await engine.send(Event("go", id="order-1"))
        assert len(engine.runs()) == 2


async def test_without_an_id_every_event_counts(engine_of: EngineOf) -> None:
    """Without an id the position in the log is the identity."""
    async with engine_of(counting_app()) as engine:
        ids = await engine.send(Event("go"), Event("go"))
        assert len(set(ids)) == 2
        assert len(engine.runs()) == 2


async def test_a_duplicate_still_wakes(engine_of: EngineOf) -> None:
    """A duplicate starts nothing, but a run that waits for it wakes."""
    app = counting_app()

    @app.function(on("watch"))
    async def watcher(ctx: Context) -> bool:
        return await ctx.step.wait_for_event("wait", event="go", timeout="1h") is not None

    async with engine_of(app) as engine:
        await engine.send(Event("go", id="x"))
        await engine.send(Event("watch"))
        await engine.send(Event("go", id="x"))
        assert engine.run("watcher").output is True
        assert len(engine.runs("function")) == 1
