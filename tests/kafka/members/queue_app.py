"""The app of the tests of queues: a step, one of a queue that may block, and another step."""

import asyncio
import os
from pathlib import Path

from stepstream import App, Context, on

app = App("queues", queues=["gpu"])
EFFECTS = os.environ.get("CHAOS_EFFECTS", "/dev/null")


async def effect(step: str, *, hold: bool = False) -> int:
    """Append a line with step and process; if `hold`, wait until the test writes into QUEUES_HOLD, a pipe."""
    file = os.open(EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{step} {os.getpid()}\n".encode())
    os.close(file)
    if hold and "QUEUES_HOLD" in os.environ:
        await asyncio.to_thread(Path(os.environ["QUEUES_HOLD"]).read_text)
    return os.getpid()


async def report_failure(ctx: Context) -> None:
    """Append a line for a run that failed."""
    await ctx.step.run("failed", effect, "failed")


@app.function(on("queues/go"), backoff="1s", on_failure=report_failure)
async def work(ctx: Context) -> list[int]:
    """Run a step of the app, one of the queue, and one of the app."""
    return [
        await ctx.step.run("first", effect, "first"),
        await ctx.step.options(queue="gpu").run("there", effect, "there", hold=ctx.event.data["n"] == 0),
        await ctx.step.run("last", effect, "last"),
    ]
