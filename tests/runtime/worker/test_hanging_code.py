"""A worker whose code hangs: cancelling the runs that hang gives their slots to others."""

import asyncio

from stepstream import App, Context, on
from stepstream.contract.events import event_record
from stepstream.contract.limits import RUNS_ACTIVE_MAX
from stepstream.testing import VirtualEngine


async def test_cancelling_runs_that_hang_lets_others_start() -> None:
    """All slots have a body that never ends, and a new run waits. It starts when the others are cancelled."""
    app = App("slots")
    full, done = asyncio.Event(), asyncio.Event()
    started: list[str] = []

    async def hang(run_id: str) -> None:
        started.append(run_id)
        if len(started) == RUNS_ACTIVE_MAX:
            full.set()
        await asyncio.get_running_loop().create_future()

    @app.function(on("hang"))
    async def hanging(ctx: Context) -> None:
        await ctx.step.run("hang", hang, ctx.run_id)

    @app.function(on("quick"))
    async def quick(ctx: Context) -> None:
        await ctx.step.run("done", done.set)

    async with VirtualEngine(app) as engine:
        await engine.engine.send([event_record("hang")] * RUNS_ACTIVE_MAX)
        await asyncio.wait_for(full.wait(), 20)
        await engine.engine.send([event_record("quick")])
        for run_id in started[:-1]:
            assert await engine.engine.operator.cancel(run_id)
        await asyncio.wait_for(done.wait(), 20)
        assert await engine.engine.operator.cancel(started[-1])
        await engine.until_idle()
        assert {run.status for run in engine.runs("hanging")} == {"cancelled"}
        assert engine.run("quick").status == "completed"
