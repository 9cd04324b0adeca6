"""`lookback=` also sees earlier events within a window."""

import pytest

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


@pytest.mark.log
async def test_lookback_sees_earlier_events(engine_of: EngineOf) -> None:
    """An event within the window ends the wait at once, but never the run's own trigger."""
    app = App("waits", lookback="1h")

    @app.function(on("start"))
    async def function(ctx: Context) -> object:
        await ctx.step.sleep("nap", "10m")
        found = await ctx.step.wait_for_event("wait", event="start", match="data.id", timeout="1d", lookback="30m")
        return found.data if found else None

    async with engine_of(app) as engine:
        await engine.send(Event("start", {"id": 1, "n": 1}))
        await engine.advance("9m")
        await engine.send(Event("start", {"id": 1, "n": 2}))
        await engine.advance("2m")
        assert engine.runs()[0].output == {"id": 1, "n": 2}


async def test_lookback_finds_one_event_among_very_many(engine_of: EngineOf) -> None:
    """Kept events are checked in bounded batches: the last one is found, and if none matches, the next that comes."""
    app = App("waits", lookback="1h")

    @app.function(on("start"))
    async def function(ctx: Context) -> object:
        found = await ctx.step.wait_for_event("wait", event="many", match="data.id", timeout="1d", lookback="30m")
        return found.data if found else None

    async with engine_of(app) as engine:
        await engine.send(*(Event("many", {"id": number}) for number in range(1_100)))
        await engine.send(Event("start", {"id": 1_099}))
        await engine.send(Event("start", {"id": 2_000}))
        await engine.send(Event("many", {"id": 2_000}))
        assert sorted(str(run.output) for run in engine.runs()) == ["{'id': 1099}", "{'id': 2000}"]
