"""Branches of several steps side by side go on by themselves."""

import asyncio

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


async def test_branches_go_on_by_themselves(engine_of: EngineOf) -> None:
    """A branch of several steps does not wait for the slowest of the others."""
    app = App("parallel")
    done: list[str] = []

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        async def branch(name: str, nap: str) -> None:
            await ctx.step.sleep(f"{name}-nap", nap)
            await ctx.step.run(f"{name}-work", done.append, name)

        await asyncio.gather(branch("quick", "1m"), branch("slow", "7d"))
        return "done"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        assert done == ["quick"]
        await engine.advance("7d")
        assert engine.run().output == "done"
    assert done == ["quick", "slow"]
