"""A step's error that is not caught fails the run without a retry."""

from stepstream import App, Context, Event, NonRetriableError, on
from tests.scenarios.conftest import EngineOf


async def test_an_uncaught_step_error_fails_the_run_at_once(engine_of: EngineOf) -> None:
    """The error of a step that is out of attempts is not retried as an error of the code."""
    app = App("failure")
    entries: list[int] = []

    def body() -> None:
        raise NonRetriableError("no")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        entries.append(1)
        await ctx.step.run("step", body)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().status == "failed"
    assert len(entries) == 1
