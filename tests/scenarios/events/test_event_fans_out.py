"""One event wakes every run that matches, and starts every function that it triggers."""

import pytest

from stepstream import Context, Event, on
from tests.scenarios.apps import waiting_app
from tests.scenarios.conftest import EngineOf


@pytest.mark.log
async def test_one_event_wakes_runs_and_starts_functions(engine_of: EngineOf) -> None:
    """One event wakes every run that matches, and starts every function that it triggers."""
    app = waiting_app()

    @app.function(on("answer"))
    async def started(ctx: Context) -> str:
        return "started"

    async with engine_of(app) as engine:
        await engine.send(*[Event("start") for _ in range(3)])
        await engine.send(Event("answer", {"n": 1}))
        assert [run.output for run in engine.runs("function")] == [{"n": 1}] * 3
        assert engine.run("started").output == "started"


@pytest.mark.slow
async def test_one_event_wakes_more_runs_than_one_batch(engine_of: EngineOf) -> None:
    """Each of many runs that wait for the same value wakes once; there are more of them than one batch handles."""
    async with engine_of(waiting_app(match="data.id")) as engine:
        await engine.send(*[Event("start", {"id": "same"}) for _ in range(600)])
        await engine.send(Event("answer", {"id": "same"}))
        assert [run.status for run in engine.runs()] == ["completed"] * 600
