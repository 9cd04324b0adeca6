"""NonRetriableError ends a step's attempts at once."""

from stepstream import App, Event, NonRetriableError
from tests.scenarios.apps import failing
from tests.scenarios.conftest import EngineOf


async def test_a_non_retriable_error_ends_the_attempts(engine_of: EngineOf) -> None:
    """NonRetriableError ends a step's attempts at once."""
    app = App("failure")
    attempts = failing(app, NonRetriableError("no"))
    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == "NonRetriableError: no"
    assert len(attempts) == 1
