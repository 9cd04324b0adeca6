"""RetryAfterError sets the next time and uses up an attempt."""

from stepstream import App, Event, RetryAfterError
from tests.scenarios.apps import failing
from tests.scenarios.conftest import EngineOf


async def test_retry_after_sets_the_next_time(engine_of: EngineOf) -> None:
    """RetryAfterError sets the next time, at least a second, and uses up an attempt."""
    app = App("failure")
    attempts = failing(app, RetryAfterError("later", "2h"), retries=1)
    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("119m")
        assert len(attempts) == 1
        await engine.advance("1m")
        assert len(attempts) == 2
        assert engine.run().output == "RetryAfterError: later"
