"""sleep and sleep_until take durations and moments; a past one goes on at once, more than 366 days are refused."""

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


async def test_sleeps_have_forms_and_bounds(engine_of: EngineOf) -> None:
    """A past date goes on at once; a sleep of over 366 days is refused at the call, an unknown form too."""
    app = App("limits")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        await ctx.step.sleep_until("past", "2001-01-01T00:00:00Z")
        messages = []
        for duration in ("367d", "soon", "-1s"):
            try:
                await ctx.step.sleep("long", duration)
            except ValueError as error:
                messages.append(str(error))
        await ctx.step.sleep("forms", "1h30m")
        return messages

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("90m")
        output = engine.run().output
        assert isinstance(output, list)
        assert ["366 days" in str(output[0]), "no duration" in str(output[1]), len(output)] == [True, True, 3]
