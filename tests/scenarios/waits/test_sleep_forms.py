"""sleep takes durations and sleep_until points in time; one in the past continues at once."""

from datetime import UTC, datetime, timedelta

import pytest

from stepstream import App, Context, Event, on
from stepstream.testing import START_MS
from tests.scenarios.conftest import EngineOf


async def test_durations_have_forms_and_bounds(engine_of: EngineOf) -> None:
    """A date in the past continues at once; over 366 days, and an unknown form, are refused at the call."""
    app = App("limits")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        await ctx.step.sleep_until("past", "2001-01-01T00:00:00Z")
        messages = []
        for duration in ("367d", "soon", "-1s"):
            try:
                await ctx.step.sleep("long", duration)
            except ValueError as error:
                messages.append(str(error))
        await ctx.step.sleep("forms", "1h30m")
        return messages

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("90m")
        output = engine.run().output
        assert isinstance(output, list)
        assert ["366 days" in str(output[0]), "not a duration" in str(output[1]), len(output)] == [True, True, 3]


@pytest.mark.parametrize(
    ("duration", "seconds"),
    [("24h", 86_400), ("2h45m", 9_900), ("7d", 604_800), (timedelta(minutes=90), 5_400), (30, 30), ("1.5s", 1.5)],
    ids=str,
)
async def test_a_sleep_ends_at_its_time(engine_of: EngineOf, duration: str | timedelta | float, seconds: float) -> None:
    """A sleep of any form of duration ends neither earlier nor later."""
    app = App("sleeps")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        await ctx.step.sleep("nap", duration)
        return "awake"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance(seconds - 0.001)
        assert engine.run().status == "running"
        await engine.advance(0.001)
        assert engine.run().output == "awake"


@pytest.mark.parametrize("form", ["datetime", "iso", "ms"])
@pytest.mark.parametrize("ahead_s", [-3_600, 0, 3_600], ids=["past", "now", "future"])
async def test_sleep_until_takes_points_in_time(engine_of: EngineOf, form: str, ahead_s: int) -> None:
    """A datetime, an ISO 8601 string and Unix milliseconds mean the same time; one in the past continues at once."""
    app = App("sleeps")
    moment = datetime.fromtimestamp(START_MS / 1_000 + ahead_s, UTC)
    forms: dict[str, str | int | datetime] = {
        "datetime": moment,
        "iso": moment.isoformat(),
        "ms": int(moment.timestamp() * 1_000),
    }

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        await ctx.step.sleep_until("nap", forms[form])
        return "awake"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert (engine.run().status == "completed") == (ahead_s <= 0)
        await engine.advance(max(ahead_s, 0))
        assert engine.run().output == "awake"
