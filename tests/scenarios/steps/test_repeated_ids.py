"""The 2nd use of an id in a run is another step; a literal id that collides with one is refused."""

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


def same(number: int) -> int:
    """Return what is given."""
    return number


async def test_the_second_use_of_an_id_is_another_step(engine_of: EngineOf) -> None:
    """The uses of an id are numbered in the order of discovery."""
    app = App("replay")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[int]:
        found = []
        for number in range(3):
            found.append(await ctx.step.run("same", same, number))
            await ctx.step.sleep("same", "1m")
        return found

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        run = engine.run()
        assert run.output == [0, 1, 2]
        assert len({step.step for step in run.steps}) == 6


async def test_an_id_that_collides_with_a_second_use_is_refused(engine_of: EngineOf) -> None:
    """A literal `a:1` beside two `a` collides: the run fails with an error that has both."""
    app = App("replay")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        for step_id in ("a", "a:1", "a"):
            await ctx.step.run(step_id, lambda: None)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        run = engine.run()
        assert run.status == "failed"
        assert "'a:1'" in str(run.error)
