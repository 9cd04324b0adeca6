"""Event and timeout race for one memo: exactly one wins, and a wait past its expiry rejects a late event."""

from stepstream import App, Context, Event, on
from tests.scenarios.apps import waiting_app
from tests.scenarios.conftest import EngineOf


async def test_a_late_event_is_rejected(engine_of: EngineOf) -> None:
    """A wait past its expiry gives None, and an event that comes then changes nothing."""
    async with engine_of(waiting_app()) as engine:
        await engine.send(Event("start"))
        await engine.advance("1d")
        await engine.send(Event("answer", {"n": 1}))
        assert engine.run().output is None
        assert [step.status for step in engine.run().steps] == ["timed_out"]


async def test_an_event_before_the_expiry_wins(engine_of: EngineOf) -> None:
    """A millisecond before the expiry the event wins, and the timer that follows changes nothing."""
    async with engine_of(waiting_app()) as engine:
        await engine.send(Event("start"))
        await engine.advance_to(engine.now_ms + 86_400_000 - 1)
        await engine.send(Event("answer", {"n": 1}))
        await engine.advance("1d")
        assert engine.run().output == {"n": 1}
        assert [step.status for step in engine.run().steps] == ["completed"]


async def test_event_and_timeout_at_one_instant(engine_of: EngineOf) -> None:
    """Event and timeout race for one memo in one batch: the expiry has passed, so the timeout wins, alone."""
    async with engine_of(waiting_app()) as engine:
        await engine.send(Event("start"))
        engine.clock.advance_to(engine.now_ms + 86_400_000)
        await engine.send(Event("answer", {"n": 1}))
        assert engine.run().output is None
        ended = [entry for entry in engine.history if type(entry).__name__ == "StepEnded"]
        assert len(ended) == 1


async def test_a_wait_of_no_time_is_over_at_once(engine_of: EngineOf) -> None:
    """timeout=0 gives None without waiting."""
    app = App("waits")

    @app.function(on("start"))
    async def function(ctx: Context) -> bool:
        return await ctx.step.wait_for_event("wait", event="answer", timeout=0) is None

    async with engine_of(app) as engine:
        await engine.send(Event("start"))
        assert engine.run().output is True
