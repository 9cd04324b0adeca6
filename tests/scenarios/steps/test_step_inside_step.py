"""A step inside a step's body is an error with the remedy."""

from stepstream import App, Context, Event, StepError, on
from tests.scenarios.conftest import EngineOf


async def test_a_step_inside_a_step_fails_the_outer_one(engine_of: EngineOf) -> None:
    """The error names both steps, whether the body is async or not."""
    app = App("replay")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        async def nested() -> None:
            await ctx.step.run("inner", lambda: None)

        messages = []
        for body in (nested, lambda: ctx.step.run("inner", lambda: None)):
            try:
                await ctx.step.run("outer", body)
            except StepError as error:
                messages.append(error.message)
        return messages

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        output = engine.run().output
        assert isinstance(output, list)
        assert len(output) == 2
        assert all("cannot contain another" in str(message) for message in output)
