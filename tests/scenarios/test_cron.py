"""cron, 5 fields, with a time zone."""

import pytest

from stepstream import App, Context, cron
from tests.scenarios.conftest import EngineOf


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
