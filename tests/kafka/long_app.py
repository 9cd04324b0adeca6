"""The app of the test of long steps: one run's body holds on until it is let go, the others' do not."""

import os
from pathlib import Path

from stepstream import App, Context, on

app = App("long")
GATE = Path(os.environ.get("LONG_GATE", "/nowhere"))


def hold(number: int) -> int:
    """Return once somebody writes into the gate, a pipe; all but the first need not wait for it."""
    if number == 0:
        with GATE.with_suffix(".begun").open("a") as begun:
            print(os.getpid(), file=begun)
        GATE.read_text()
    return os.getpid()


@app.function(on("long/go"), retries=0)
async def work(ctx: Context) -> list[int]:
    """Run two steps, and return where each ran."""
    held = await ctx.step.run("hold", hold, ctx.event.data["n"])
    return [held, await ctx.step.run("after", os.getpid)]


@app.function()
async def other(ctx: Context) -> None:
    """Be the second function that tests wait for."""
