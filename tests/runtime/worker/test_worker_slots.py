"""A worker whose code hangs: others wait for their turn, and cancelling what hangs gives it to them."""

import asyncio

from stepstream import App, Context, on
from stepstream.contract.events import event_record
from stepstream.contract.limits import RUNS_ACTIVE_MAX
from stepstream.testing import VirtualEngine


async def test_cancelling_what_hangs_lets_the_others_begin() -> None:
    """With every slot taken by a body that never ends, a new run waits; it begins when the others are cancelled."""
    app = App("slots")
    full, done = asyncio.Event(), asyncio.Event()
    began: list[str] = []

    async def hang(run_id: str) -> None:
        began.append(run_id)
        if len(began) == RUNS_ACTIVE_MAX:
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
        for run_id in began[:-1]:
            assert await engine.engine.cancel(run_id)
        await asyncio.wait_for(done.wait(), 20)
        assert await engine.engine.cancel(began[-1])
        await engine.until_idle()
        assert {run.status for run in engine.runs("hanging")} == {"cancelled"}
        assert engine.run("quick").status == "completed"
