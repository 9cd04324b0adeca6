"""An await on something that is not a step works between steps."""

import asyncio
from typing import Any

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


async def test_a_bare_await_between_steps_works(engine_of: EngineOf) -> None:
    """An await on something that is not a step neither suspends the run nor loses a result."""
    app = App("replay")

    @app.function(on("go"))
    async def function(ctx: Context) -> Any:
        async def with_bare_await() -> int:
            for _ in range(20):
                await asyncio.sleep(0)
            await asyncio.to_thread(int)
            return await ctx.step.run("late", lambda: 7)

        return await asyncio.gather(with_bare_await(), ctx.step.sleep("nap", "1h"))

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        assert engine.run().output == [7, None]


async def test_tasks_of_a_run_may_share_a_lock_and_a_queue(engine_of: EngineOf) -> None:
    """Tasks of a run may synchronize by asyncio's primitives, live and replayed."""
    app = App("replay")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[int]:
        queue: asyncio.Queue[int] = asyncio.Queue()

        async def produce() -> None:
            for number in range(3):
                await ctx.step.sleep(f"nap-{number}", "1h")
                await queue.put(number)

        async def consume() -> list[int]:
            return [await ctx.step.run(f"use-{n}", abs, await queue.get()) for n in range(3)]

        _, used = await asyncio.gather(produce(), consume())
        return used

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("3h")
        assert engine.run().output == [0, 1, 2]
