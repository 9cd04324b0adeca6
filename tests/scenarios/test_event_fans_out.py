"""One event wakes every run that matches, and starts every function it triggers."""

from stepstream import Context, Event, on
from tests.scenarios.apps import waiting_app
from tests.scenarios.conftest import EngineOf


async def test_one_event_wakes_all_and_starts_functions_too(engine_of: EngineOf) -> None:
    """One event wakes every run that matches, and starts every function it triggers."""
    app = waiting_app()

    @app.function(on("answer"))
    async def started(ctx: Context) -> str:
        return "started"

    async with engine_of(app) as engine:
        await engine.send(*[Event("start") for _ in range(3)])
        await engine.send(Event("answer", {"n": 1}))
        assert [run.output for run in engine.runs("function")] == [{"n": 1}] * 3
        assert engine.run("started").output == "started"


async def test_many_runs_wake_by_one_event(engine_of: EngineOf) -> None:
    """One event wakes each of many runs that wait for the same value, once; they are more than one batch takes."""
    async with engine_of(waiting_app(match="data.id")) as engine:
        await engine.send(*[Event("start", {"id": "same"}) for _ in range(600)])
        await engine.send(Event("answer", {"id": "same"}))
        assert [run.status for run in engine.runs()] == ["completed"] * 600
