"""NonRetriableError ends a step's attempts at once."""

from stepstream import App, Context, Event, NonRetriableError, on
from tests.scenarios.apps import failing
from tests.scenarios.conftest import EngineOf


async def test_invalid_input_of_a_step_is_not_retried(engine_of: EngineOf) -> None:
    """An invalid duration is as invalid the next time: the run fails at once."""
    app = App("failure")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.sleep("nap", "2 hours of sleep")

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        run = engine.run()
        assert (run.status, run.attempt) == ("failed", 0)


async def test_a_non_retriable_error_ends_the_attempts(engine_of: EngineOf) -> None:
    """The body does not run again."""
    app = App("failure")
    attempts = failing(app, NonRetriableError("no"))
    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == "NonRetriableError: no"
    assert len(attempts) == 1
