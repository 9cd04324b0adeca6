"""An event with a future `ts` starts its runs then, and wakes waiting runs at once."""

import pytest

from stepstream import Context, Event, on
from tests.scenarios.apps import counting_app
from tests.scenarios.conftest import EngineOf


@pytest.mark.log
async def test_an_event_with_a_future_time_starts_its_run_then(engine_of: EngineOf) -> None:
    """Runs that wait for the event are woken at once."""
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
