"""4 retries by default, so 5 attempts; then the function sees a StepError, which it may catch."""

from stepstream import App, Event
from tests.scenarios.apps import failing
from tests.scenarios.conftest import EngineOf


async def test_a_step_has_five_attempts_by_default(engine_of: EngineOf) -> None:
    """After 4 retries the function sees a StepError with name and message, and may continue."""
    app = App("failure")
    attempts = failing(app, ValueError("no"))
    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("14s")
        assert len(attempts) == 1
        await engine.advance("31s")
        assert len(attempts) == 2
        await engine.advance("1h")
        assert len(attempts) == 5
        run = engine.run()
        assert run.output == "ValueError: no"
        assert run.steps[0].attempts == 5


async def test_retries_and_backoff_are_settable(engine_of: EngineOf) -> None:
    """retries= and backoff= hold for every step of a function; step.options changes them for some."""
    app = App("failure")
    attempts = failing(app, ValueError("no"), retries=2, backoff=["1s", "10s"])
    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1s")
        assert len(attempts) == 2
        await engine.advance("9s")
        assert len(attempts) == 2
        await engine.advance("1s")
        assert len(attempts) == 3
        assert engine.run().status == "completed"
