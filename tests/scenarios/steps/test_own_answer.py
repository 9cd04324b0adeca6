"""All waits of one activation are registered before its other effects."""

import asyncio

import pytest

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


@pytest.mark.log
async def test_a_run_cannot_miss_the_answer_to_its_own_event(engine_of: EngineOf) -> None:
    """Waits are registered before other effects, also before the bodies of steps that send."""
    app = App("waits")

    @app.function(on("start"))
    async def function(ctx: Context) -> list[object]:
        first, _ = await asyncio.gather(
            ctx.step.wait_for_event("a", event="echo", timeout="1h"),
            ctx.step.send_event("send", Event("echo", {"n": 1})),
        )
        second, _ = await asyncio.gather(
            ctx.step.wait_for_event("b", event="echo", timeout="1h"),
            ctx.step.run("outside", app.send, Event("echo", {"n": 2})),
        )
        return [first and first.data, second and second.data]

    async with engine_of(app) as engine:
        await engine.send(Event("start"))
        assert engine.run().output == [{"n": 1}, {"n": 2}]
