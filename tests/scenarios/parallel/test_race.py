"""`race` ends with the first step and cancels the others."""

from stepstream import App, Context, Event, NonRetriableError, StepError, on
from tests.scenarios.conftest import EngineOf


async def test_a_race_ends_with_the_first_and_cancels_the_others(engine_of: EngineOf) -> None:
    """The losers are cancelled and leave nothing behind."""
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


async def test_an_error_can_win_a_race(engine_of: EngineOf) -> None:
    """A race ends with the first step, also if that fails."""
    app = App("parallel")

    def broken() -> None:
        raise NonRetriableError("no")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        try:
            await ctx.group.race(ctx.step.run("bad", broken), ctx.step.sleep("nap", "1h"))
        except StepError as error:
            return error.step_id
        return "never"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        run = engine.run()
        assert run.output == "bad"
        assert {step.id: step.status for step in run.steps} == {"bad": "failed", "nap": "cancelled"}


async def test_a_failed_attempt_does_not_win_a_race(engine_of: EngineOf) -> None:
    """A step between two attempts has not ended: the other may win, and the attempts stop."""
    app = App("parallel")
    attempts: list[int] = []

    def broken() -> None:
        attempts.append(1)
        raise ValueError("no")

    @app.function(on("go"), backoff="1h")
    async def function(ctx: Context) -> str:
        await ctx.group.race(ctx.step.run("bad", broken), ctx.step.sleep("nap", "90m"))
        await ctx.step.sleep("after", "1d")
        return "rested"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("3d")
        assert engine.run().output == "rested"
    assert len(attempts) == 2
