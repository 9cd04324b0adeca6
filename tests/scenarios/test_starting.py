"""Starting runs: by events once, by the clock, in the future, and on conditions."""

import pytest

from stepstream import App, Context, Event, cron, on
from tests.scenarios.conftest import EngineOf


def counting_app() -> App:
    """Make an app with one function that returns the data of its event."""
    app = App("starting")

    @app.function(on("go"))
    async def function(ctx: Context) -> object:
        return ctx.event.data

    return app


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


async def test_several_matching_triggers_start_once(engine_of: EngineOf) -> None:
    """Several matching triggers of one function on one event start it once; a condition that fails does not."""
    app = App("starting")

    @app.function(on("go", if_="event.data.n > 1"), on("go", if_="event.data.n > 2"), on("other"))
    async def function(ctx: Context) -> object:
        return ctx.event.data["n"]

    async with engine_of(app) as engine:
        await engine.send(*[Event("go", {"n": n}) for n in (1, 2, 3)], Event("go", {"n": "text"}), Event("go"))
        assert sorted(str(run.output) for run in engine.runs()) == ["2", "3"]


async def test_an_event_of_the_future_starts_then(engine_of: EngineOf) -> None:
    """An event with a future ts starts its runs then; it wakes waiters at once."""
    app = counting_app()

    @app.function(on("watch"))
    async def watcher(ctx: Context) -> bool:
        return await ctx.step.wait_for_event("wait", event="go", timeout="1h") is not None

    async with engine_of(app) as engine:
        await engine.send(Event("watch"))
        await engine.send(Event("go", {"n": 1}, ts=engine.now_ms + 7_200_000))
        assert engine.run("watcher").output is True
        assert engine.run("function").status == "scheduled"
        await engine.advance("119m")
        assert engine.run("function").status == "scheduled"
        await engine.advance("1m")
        assert engine.run("function").output == {"n": 1}


@pytest.mark.parametrize(("zone", "hours"), [("UTC", [9, 33]), ("America/New_York", [14, 38])])
async def test_cron_starts_by_the_clock_of_its_zone(engine_of: EngineOf, zone: str, hours: list[int]) -> None:
    """cron, 5 fields, with a time zone; each firing is one run."""
    app = App("starting")

    @app.function(cron("0 9 * * *", tz=zone))
    async def daily(ctx: Context) -> object:
        return ctx.event.ts

    async with engine_of(app) as engine:
        start = engine.now_ms
        await engine.advance("48h")
        assert [run.output for run in engine.runs()] == [start + hour * 3_600_000 for hour in hours]


async def test_one_failing_function_is_nothing_to_another(engine_of: EngineOf) -> None:
    """The matched functions start independently."""
    app = counting_app()

    @app.function(on("go"), retries=0)
    async def broken(ctx: Context) -> None:
        raise ValueError("no")

    async with engine_of(app) as engine:
        await engine.send(Event("go", {"n": 1}))
        assert engine.run("function").status == "completed"
        assert engine.run("broken").status == "failed"
