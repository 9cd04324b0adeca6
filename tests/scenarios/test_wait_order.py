"""Only events that come after the wait is registered wake it, by log order."""

from stepstream import Event
from tests.scenarios.apps import waiting_app
from tests.scenarios.conftest import EngineOf


async def test_only_later_events_wake(engine_of: EngineOf) -> None:
    """Only events that come after the wait is registered count."""
    async with engine_of(waiting_app()) as engine:
        await engine.send(Event("answer", {"n": 1}))
        await engine.send(Event("start"))
        assert engine.run().status == "running"
        await engine.send(Event("answer", {"n": 2}))
        assert engine.run().output == {"n": 2}
