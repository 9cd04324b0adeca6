"""Memos are resolved in the order in which steps completed, so races have the same winner in a replay."""

import asyncio

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


async def test_a_race_has_the_same_winner_in_a_replay(engine_of: EngineOf) -> None:
    """Memos are resolved in the order in which steps completed."""
    app = App("replay")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        async def branch(name: str, nap: str) -> str:
            await ctx.step.sleep(name, nap)
            return name

        tasks = [asyncio.ensure_future(branch("slow", "2h")), asyncio.ensure_future(branch("fast", "1h"))]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        winner = next(iter(done)).result()
        both = sorted(await asyncio.gather(*done, *pending))
        await ctx.step.sleep("after", "1h")
        return [winner, *both]

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("5h")
        assert engine.run().output == ["fast", "fast", "slow"]
