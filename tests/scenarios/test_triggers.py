"""Several matching triggers of one function on one event start it once."""

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


async def test_several_matching_triggers_start_once(engine_of: EngineOf) -> None:
    """Several matching triggers of one function on one event start it once; a condition that fails does not."""
    app = App("starting")

    @app.function(on("go", if_="event.data.n > 1"), on("go", if_="event.data.n > 2"), on("other"))
    async def function(ctx: Context) -> object:
        return ctx.event.data["n"]

    async with engine_of(app) as engine:
        await engine.send(*[Event("go", {"n": n}) for n in (1, 2, 3)], Event("go", {"n": "text"}), Event("go"))
        assert sorted(str(run.output) for run in engine.runs()) == ["2", "3"]
