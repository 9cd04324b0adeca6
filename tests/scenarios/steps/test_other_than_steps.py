"""Code may wait for something that is not a step, between steps or beside them."""

import asyncio

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


async def test_code_may_wait_for_another_run_between_steps(engine_of: EngineOf) -> None:
    """No step is open while a run waits for what another run provides; it continues anyway."""
    app = App("replay")
    turn = asyncio.Event()

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        both = await asyncio.gather(ctx.step.run("a", lambda: "a"), ctx.step.run("b", lambda: "b"))
        await turn.wait()
        return [*both, await ctx.step.run("c", lambda: "c")]

    @app.function(on("give"))
    async def give(ctx: Context) -> None:
        await ctx.step.run("give", turn.set)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run(function).status == "running"
        await engine.send(Event("give"))
        assert engine.run(function).output == ["a", "b", "c"]


async def test_runs_may_share_a_semaphore_of_the_process(engine_of: EngineOf) -> None:
    """A semaphore that is held across a step admits one run after the other."""
    app = App("replay")
    limit = asyncio.Semaphore(1)

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        await ctx.step.sleep("nap", "1m")
        async with limit:
            return await ctx.step.run("call", lambda: "called")

    async with engine_of(app) as engine:
        await engine.send(*[Event("go")] * 5)
        await engine.advance("1m")
        assert [run.output for run in engine.runs()] == ["called"] * 5
