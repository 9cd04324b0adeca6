"""The code between steps has its own attempts."""

from stepstream import App, Context, Event, NonRetriableError, on
from tests.scenarios.conftest import EngineOf


async def test_code_between_steps_is_retried_without_its_steps(engine_of: EngineOf) -> None:
    """The code between steps is retried; steps that are done keep their results."""
    app = App("failure")
    bodies: list[int] = []
    entries: list[int] = []

    @app.function(on("go"), retries=2, backoff="1s")
    async def function(ctx: Context) -> int:
        entries.append(ctx.attempt)
        await ctx.step.run("step", bodies.append, 1)
        if len(entries) < 3:
            raise ValueError("flaky")
        return len(entries)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("10s")
        assert engine.run().output == 3
    assert bodies == [1]
    assert entries == [0, 1, 2]


async def test_an_error_between_steps_fails_the_run(engine_of: EngineOf) -> None:
    """An error in the function's own code ends the run with its name and message."""
    app = App("replay")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        raise NonRetriableError("no such customer")

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        run = engine.run()
        assert run.status == "failed"
        assert isinstance(run.error, dict)
        assert run.error["name"] == "NonRetriableError"
        assert run.error["message"] == "no such customer"
