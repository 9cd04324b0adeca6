"""Cron triggers have 5 fields and a time zone."""

from datetime import UTC, datetime
from typing import Any

import pytest

from stepstream import App, Context, Event, cron, on
from tests.scenarios.conftest import EngineOf


@pytest.mark.parametrize(("zone", "hours"), [("UTC", [9, 33]), ("America/New_York", [14, 38])])
async def test_cron_fires_in_its_time_zone(engine_of: EngineOf, zone: str, hours: list[int]) -> None:
    """Each firing at a local time is one run."""
    app = App("starting")

    @app.function(cron("0 9 * * *", tz=zone))
    async def daily(ctx: Context) -> object:
        return ctx.event.ts

    async with engine_of(app) as engine:
        start = engine.now_ms
        await engine.advance("48h")
        assert [run.output for run in engine.runs()] == [start + hour * 3_600_000 for hour in hours]


@pytest.mark.parametrize(
    ("start", "hours"),
    [
        # On 8 March 2026 New York goes from 2:00 to 3:00: 9:00 there comes 23 hours after 9:00 of the day before.
        (datetime(2026, 3, 7, 12, tzinfo=UTC), [2, 25, 49]),
        # On 1 November 2026 it goes back: 25 hours lie between.
        (datetime(2026, 10, 31, 12, tzinfo=UTC), [1, 26, 50]),
    ],
    ids=["spring", "autumn"],
)
async def test_cron_keeps_local_time_across_a_clock_change(
    engine_of: EngineOf, start: datetime, hours: list[int]
) -> None:
    """Across a change of daylight saving time the function runs at 9:00 local time, once a day."""
    app = App("starting")
    start_ms = int(start.timestamp() * 1_000)

    @app.function(cron("0 9 * * *", tz="America/New_York"))
    async def daily(ctx: Context) -> int:
        return (ctx.event.ts - start_ms) // 3_600_000

    async with engine_of(app, now_ms=start_ms) as engine:
        await engine.advance("60h")
        assert [run.output for run in engine.runs()] == hours


@pytest.mark.log
async def test_a_function_may_have_a_cron_and_an_event_trigger(engine_of: EngineOf) -> None:
    """Both triggers start the function."""
    app = App("starting")

    @app.function(cron("*/30 * * * *"), on("now"))
    async def function(ctx: Context) -> str:
        return ctx.event.name

    async with engine_of(app) as engine:
        await engine.send(Event("now"))
        await engine.advance("1h")
        assert sorted(str(run.output) for run in engine.runs()) == ["now", "stream/cron", "stream/cron"]


async def test_jitter_spreads_the_starts_of_functions(engine_of: EngineOf) -> None:
    """Each start is late by less than the jitter, at another time for each function and day."""
    app = App("starting")

    async def started(ctx: Context) -> list[int]:
        return [ctx.event.data["scheduled_at"], ctx.event.ts - ctx.event.data["scheduled_at"]]

    for number in range(3):
        app.function(cron("0 9 * * *", jitter="5m"), id=f"daily-{number}")(started)
    async with engine_of(app) as engine:
        start = engine.now_ms
        await engine.advance("48h")
        found: Any = [run.output for run in engine.runs()]
    assert sorted(scheduled_at - start for scheduled_at, _ in found) == [32_400_000] * 3 + [118_800_000] * 3
    assert len({late for _, late in found}) == 6
    assert all(0 < late < 300_000 for _, late in found)
