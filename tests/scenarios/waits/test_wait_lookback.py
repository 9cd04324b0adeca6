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


async def test_timeout_zero_asks_whether_the_event_has_come(engine_of: EngineOf) -> None:
    """With lookback= and no time to wait, the result is the event that has come already, or None."""
    app = App("waits", lookback="1h")

    @app.function(on("start"))
    async def function(ctx: Context) -> object:
        found = [
            await ctx.step.wait_for_event(name, event=name, match="data.id", timeout=0, lookback="30m")
            for name in ("paid", "refunded")
        ]
        return [event and event.id for event in found]

    async with engine_of(app) as engine:
        await engine.send(Event("paid", {"id": 1}, id="payment"))
        await engine.send(Event("start", {"id": 1}))
        assert engine.runs()[0].output == ["payment", None]


async def test_lookback_that_sees_only_some_events_warns(engine_of: EngineOf) -> None:
    """Without an equality only the newest kept events are seen, and the run has a warning."""
    app = App("waits", lookback="1h")

    @app.function(on("start"))
    async def function(ctx: Context) -> object:
        found = await ctx.step.wait_for_event(
            "wait", event="many", if_="async.data.n < 40 || async.data.n == 100", timeout="1m", lookback="30m"
        )
        return found and found.data

    async with engine_of(app) as engine:
        # All of the older events match, and one of the newest 200; these come in any order from several partitions.
        await engine.send(*(Event("many", {"n": number}) for number in range(40)))
        await engine.send(*(Event("many", {"n": number}) for number in range(40, 240)))
        await engine.send(Event("start"))
        (run,) = engine.runs()
        assert run.output == {"n": 100}
        (warning,) = run.warnings
        assert warning.startswith("step 'wait' looked back at only the newest 200")


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
