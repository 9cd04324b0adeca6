"""RetryAfterError sets the time of the next attempt, and the attempt counts."""

from stepstream import App, Event, RetryAfterError
from tests.scenarios.apps import failing
from tests.scenarios.conftest import EngineOf


async def test_retry_after_sets_the_next_attempt(engine_of: EngineOf) -> None:
    """The next attempt starts after the given time, at least a second, and the attempt counts."""
    app = App("failure")
    attempts = failing(app, RetryAfterError("later", "2h"), retries=1)
    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("119m")
        assert len(attempts) == 1
        await engine.advance("1m")
        assert len(attempts) == 2
        assert engine.run().output == "RetryAfterError: later"
