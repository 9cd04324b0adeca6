"""The app of the tests of long steps: the body of one run blocks until the test releases it."""

import os
from pathlib import Path

from stepstream import App, Context, on

app = App("long")
GATE = Path(os.environ.get("LONG_GATE", "/nonexistent"))


def hold(number: int) -> int:
    """Return the process id; the body of run 0 first waits until the test writes into the gate, a pipe."""
    if number == 0:
        with GATE.with_suffix(".started").open("a") as started:
            print(os.getpid(), file=started)
        GATE.read_text()
    return os.getpid()


@app.function(on("long/go"), retries=0)
async def work(ctx: Context) -> list[int]:
    """Run two steps, and return the process of each."""
    held = await ctx.step.run("hold", hold, ctx.event.data["n"])
    return [held, await ctx.step.run("after", os.getpid)]


@app.function()
async def other(ctx: Context) -> None:
    """Exist: tests wait until two functions are registered."""
