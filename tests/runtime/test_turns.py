"""Runs of a worker with few slots: whose turn it is, and what becomes of those that wait for theirs."""

import asyncio

import pytest

from stepstream import App, Context, on
from stepstream.contract.commands import RunStopped
from stepstream.runtime import worker
from tests.runtime.desk import served, started


async def test_runs_that_went_do_not_fill_the_room_of_those_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition comes and goes, as when a pod beside it restarts: commands are read as before."""
    monkeypatch.setattr(worker, "RUNS_QUEUED_MAX", 10)
    app, stopped = App("shop"), asyncio.Event()

    async def body() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            stopped.set()

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.run("work", body)

    async with served(app, runs_active_max=1) as desk:
        await desk.give(*map(started, ("first", "a", "b", "c", "d")))
        for _ in range(2):
            await desk.come_back()
            assert desk.worker.load.queued == 4
        await desk.give(RunStopped("first", "cancelled"))
        assert stopped.is_set()
