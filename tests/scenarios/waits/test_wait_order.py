"""Only events that come after the wait was registered wake it, by log order."""

import pytest

from stepstream import Event
from tests.scenarios.apps import waiting_app
from tests.scenarios.conftest import EngineOf


@pytest.mark.log
async def test_only_events_after_the_wait_wake_it(engine_of: EngineOf) -> None:
    """Events before the wait was registered do not count."""
    async with engine_of(waiting_app()) as engine:
        await engine.send(Event("answer", {"n": 1}))
        await engine.send(Event("start"))
        assert engine.run().status == "running"
        await engine.send(Event("answer", {"n": 2}))
        assert engine.run().output == {"n": 2}
