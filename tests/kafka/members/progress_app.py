"""The app of the test of heartbeats: the body of a run reports its progress, and hangs until its process is killed."""

import asyncio
import os
from typing import Any

from stepstream import App, Context, on

app = App("progress")


@app.function(on("progress/go"), retries=0)
async def copy(ctx: Context) -> list[Any]:
    """Return the progress that the body found, and the process in which it ended."""

    async def work() -> list[Any]:
        if ctx.progress is None:
            ctx.heartbeat({"page": 7, "pid": os.getpid()})
            await asyncio.Event().wait()
        return [ctx.progress, os.getpid()]

    return await ctx.step.run("work", work)


@app.function()
async def other(ctx: Context) -> None:
    """Exist: tests wait until two functions are registered."""
