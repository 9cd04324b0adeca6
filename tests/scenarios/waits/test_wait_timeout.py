"""A wait ends with its event or its timeout; an event after the expiry is not accepted."""

import pytest

from stepstream import App, Context, Event, on
from tests.scenarios.apps import waiting_app
from tests.scenarios.conftest import EngineOf


async def test_an_event_after_the_expiry_is_rejected(engine_of: EngineOf) -> None:
    """An expired wait returns None, and an event that comes later changes nothing."""
    async with engine_of(waiting_app()) as engine:
        await engine.send(Event("start"))
        await engine.advance("1d")
        await engine.send(Event("answer", {"n": 1}))
        assert engine.run().output is None
        assert [step.status for step in engine.run().steps] == ["timed_out"]


@pytest.mark.log
async def test_an_event_before_the_expiry_wins(engine_of: EngineOf) -> None:
    """A millisecond before the expiry the event wins, and the timer that follows changes nothing."""
    async with engine_of(waiting_app()) as engine:
        await engine.send(Event("start"))
        await engine.advance_to(engine.now_ms + 86_400_000 - 1)
        await engine.send(Event("answer", {"n": 1}))
        await engine.advance("1d")
        assert engine.run().output == {"n": 1}
        assert [step.status for step in engine.run().steps] == ["completed"]


async def test_the_timeout_wins_at_the_same_instant(engine_of: EngineOf) -> None:
    """Event and timeout in one batch: the expiry has passed, so the timeout wins, alone."""
    async with engine_of(waiting_app()) as engine:
        await engine.send(Event("start"))
        engine.clock.advance_to(engine.now_ms + 86_400_000)
        await engine.send(Event("answer", {"n": 1}))
        assert engine.run().output is None
        ended = [entry for entry in engine.history if type(entry).__name__ == "StepEnded"]
        assert len(ended) == 1


async def test_a_timeout_of_zero_returns_none_at_once(engine_of: EngineOf) -> None:
    """timeout=0 returns None without waiting."""
    app = App("waits")

    @app.function(on("start"))
    async def function(ctx: Context) -> bool:
        return await ctx.step.wait_for_event("wait", event="answer", timeout=0) is None

    async with engine_of(app) as engine:
        await engine.send(Event("start"))
        assert engine.run().output is True
