"""The app of the tests of frozen processes: a chain of steps, one of which stops its process once it is told to."""

import os
import signal
from pathlib import Path

from stepstream import App, Context, on

app = App("zombie")
STEPS = tuple(f"step-{number}" for number in range(6))
STOPS_IN = STEPS[2]
EFFECTS = Path(os.environ.get("CHAOS_EFFECTS", "/dev/null"))


async def body(run_id: str, step: str) -> int:
    """Leave a line that says who ran, and stop here if this process is told to; return the process."""
    with EFFECTS.open("a") as effects:
        effects.write(f"{run_id} {step} {os.getpid()}\n")
    told = Path(os.environ.get("ZOMBIE_TOLD", "/nowhere"))
    if step == STOPS_IN and told.exists():
        told.unlink()
        os.kill(os.getpid(), signal.SIGSTOP)
    return os.getpid()


@app.function(on("zombie/go"), retries=0)
async def chain(ctx: Context) -> list[int]:
    """Run all steps, one after the other."""
    return [await ctx.step.run(step, body, ctx.run_id, step) for step in STEPS]


@app.function()
async def other(ctx: Context) -> None:
    """Be the second function that tests wait for."""
