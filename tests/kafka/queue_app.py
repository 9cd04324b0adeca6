"""The app of the tests of queues: a step of its own, one of a queue that may hold on, and another of its own."""

import asyncio
import os
from pathlib import Path

from stepstream import App, Context, on

app = App("queues", queues=["gpu"])
EFFECTS = os.environ.get("CHAOS_EFFECTS", "/dev/null")


async def effect(step: str, *, hold: bool = False) -> int:
    """Leave a line that says which process runs the step; hold on until somebody writes into QUEUES_HOLD, a pipe."""
    file = os.open(EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{step} {os.getpid()}\n".encode())
    os.close(file)
    if hold and "QUEUES_HOLD" in os.environ:
        await asyncio.to_thread(Path(os.environ["QUEUES_HOLD"]).read_text)
    return os.getpid()


async def give_up(ctx: Context) -> None:
    """Leave a word of a run that failed."""
    await ctx.step.run("failed", effect, "failed")


@app.function(on("queues/go"), backoff="1s", on_failure=give_up)
async def work(ctx: Context) -> list[int]:
    """Run a step here, one there, and one here."""
    return [
        await ctx.step.run("first", effect, "first"),
        await ctx.step.options(queue="gpu").run("there", effect, "there", hold=ctx.event.data["n"] == 0),
        await ctx.step.run("last", effect, "last"),
    ]
