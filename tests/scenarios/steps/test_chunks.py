"""Loops, chunking and map-reduce follow from the steps."""

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


async def test_chunks_of_parallel_steps_are_collected_in_order(engine_of: EngineOf) -> None:
    """Chunks of work fan out and are collected in order."""
    app = App("parallel")

    @app.function(on("go"))
    async def function(ctx: Context) -> int:
        total = 0
        for chunk in range(4):
            parts = [ctx.step.run(f"part-{chunk}-{part}", abs, part) for part in range(10)]
            total += sum(await ctx.group.parallel(*parts))
            await ctx.step.sleep("breathe", "1s")
        return total

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        assert engine.run().output == 180
        assert len(engine.run().steps) == 44
