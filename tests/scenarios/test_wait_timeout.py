"""Event and timeout race for one memo: exactly one wins, and a wait past its expiry rejects a late event."""

from stepstream import Event
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
