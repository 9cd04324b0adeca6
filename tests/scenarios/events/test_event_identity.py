"""An event with an id starts each function at most once in 24 h; without one its log position is its identity."""

import pytest

from stepstream import App, Context, Event, on
from tests.scenarios.apps import counting_app
from tests.scenarios.conftest import EngineOf


@pytest.mark.log
async def test_an_event_id_starts_a_function_once_in_24_hours(engine_of: EngineOf) -> None:
    """The second event of an id starts nothing, also after the run has ended."""
    async with engine_of(counting_app()) as engine:
        for _ in range(2):
            await engine.send(Event("go", id="order-1"))
        await engine.advance("23h")
        await engine.send(Event("go", id="order-1"))
        assert len(engine.runs()) == 1
        await engine.advance("2h")
        await engine.send(Event("go", id="order-1"))
        assert len(engine.runs()) == 2


async def test_events_without_an_id_each_start_a_run(engine_of: EngineOf) -> None:
    """Without an id the position in the log is the identity."""
    async with engine_of(counting_app()) as engine:
        ids = await engine.send(Event("go"), Event("go"))
        assert len(set(ids)) == 2
        assert len(engine.runs()) == 2


async def test_a_duplicate_wakes_waiting_runs(engine_of: EngineOf) -> None:
    """A duplicate starts nothing, but wakes a run that waits for it."""
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


async def test_one_id_starts_each_of_two_functions_once(engine_of: EngineOf) -> None:
    """An event id counts for each function: two functions of one event both start."""
    app = counting_app()

    @app.function(on("go"))
    async def other(ctx: Context) -> str:
        return "other"

    async with engine_of(app) as engine:
        for _ in range(3):
            await engine.send(Event("go", {"n": 1}, id="order-1"))
        assert engine.run("function").output == {"n": 1}
        assert engine.run("other").output == "other"


async def test_an_id_deduplicates_events_of_any_name(engine_of: EngineOf) -> None:
    """The id is the identity, whatever the name: a second event of the same id does not start the function again."""
    app = App("starting")

    @app.function(on("a"), on("b"))
    async def function(ctx: Context) -> str:
        return ctx.event.name

    async with engine_of(app) as engine:
        await engine.send(Event("a", id="x"))
        await engine.send(Event("b", id="x"))
        assert engine.run().output == "a"


async def test_an_id_counts_while_its_run_is_open(engine_of: EngineOf) -> None:
    """A run that is open for longer than 24 h is not started twice by its event."""
    app = App("starting")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.sleep("nap", "7d")

    async with engine_of(app) as engine:
        await engine.send(Event("go", id="x"))
        await engine.advance("1h")
        await engine.send(Event("go", id="x"))
        await engine.advance("7d")
        assert engine.run().status == "completed"
