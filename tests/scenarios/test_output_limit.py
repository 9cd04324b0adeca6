"""4 MiB for one step's output: a catchable error, and the body does not run again because of it."""

from stepstream import App, Context, Event, StepError, on
from stepstream.contract.limits import Limits
from tests.scenarios.conftest import EngineOf


async def test_too_large_an_output_can_be_caught_and_is_not_tried_again(engine_of: EngineOf) -> None:
    """A step's output over its limit is a catchable error; the body does not run again because of it."""
    app = App("limits")
    bodies: list[int] = []

    def large() -> str:
        bodies.append(1)
        return "x" * 101

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        try:
            await ctx.step.run("large", large)
        except StepError as error:
            return error.code
        return "never"

    async with engine_of(app, limits=Limits(step_output_bytes_max=100)) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == "output-too-large"
    assert bodies == [1]
