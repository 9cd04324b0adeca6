"""`race` settles with the first and cancels the losers."""

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


async def test_a_race_settles_with_the_first_and_cancels_the_others(engine_of: EngineOf) -> None:
    """race settles with the first; the losers are cancelled and leave nothing behind."""
    app = App("parallel")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        winner = await ctx.group.race(
            ctx.step.wait_for_event("event", event="answer", timeout="7d"),
            ctx.step.wait_for_signal("signal", signal="answer", timeout="7d"),
        )
        await ctx.step.sleep("nap", "1h")
        return str(winner)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert await engine.signal("answer", "hello")
        await engine.send(Event("answer"))
        await engine.advance("1h")
        run = engine.run()
        assert run.output == "hello"
        assert {step.id: step.status for step in run.steps} == {
            "event": "cancelled",
            "signal": "completed",
            "nap": "completed",
        }
