"""A step inside a step's body is an error that says so."""

from stepstream import App, Context, Event, StepError, on
from tests.scenarios.conftest import EngineOf


async def test_a_step_inside_a_step_is_an_error_that_says_so(engine_of: EngineOf) -> None:
    """A step inside a step's body fails the outer one at once, async or not."""
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
