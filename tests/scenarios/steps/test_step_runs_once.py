"""A function is replayed from its first line; a step with a memo returns it."""

import pytest

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf, World


@pytest.mark.log
async def test_a_step_runs_once_however_often_the_code_runs(engine_of: EngineOf, world: World) -> None:
    """A step with a memo returns it; code outside steps may run any number of times."""
    app = App("replay")
    entries: list[str] = []
    bodies: list[str] = []

    def body(name: str) -> str:
        bodies.append(name)
        return name

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        entries.append("in")
        first = await ctx.step.run("first", body, "a")
        await ctx.step.sleep("nap", "1h")
        return [first, await ctx.step.run("second", body, "b")]

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        assert engine.run().output == ["a", "b"]
    assert bodies == ["a", "b"]
    assert len(entries) == (1 if world.live_cache else 2)
