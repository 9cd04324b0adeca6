"""The app of the tests of frozen processes: a chain of steps, one of which stops its process once it is told to."""

import os
import signal
import sys
from pathlib import Path

from stepstream import App, Context, on

app = App("zombie")
STEPS = tuple(f"step-{number}" for number in range(6))
STOPS_IN = STEPS[2]
STOPS = "stops here"
EFFECTS = os.environ.get("CHAOS_EFFECTS", "/dev/null")


def stop_if_told() -> bool:
    """Stop this process where it is, once, if the file that it was given is there; tell whether it was stopped."""
    told = Path(os.environ.get("ZOMBIE_TOLD", "/nowhere"))
    if not told.exists():
        return False
    told.unlink()
    print(STOPS, file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    return True


def leave_line(run_id: str, step: str) -> None:
    """Leave a line that says who ran."""
    with Path(EFFECTS).open("a") as effects:
        effects.write(f"{run_id} {step} {os.getpid()}\n")


async def body(run_id: str, step: str) -> None:
    """Leave a line, and stop here if it is the step for it."""
    leave_line(run_id, step)
    if step == STOPS_IN:
        stop_if_told()


@app.function(on("zombie/go"), retries=0)
async def chain(ctx: Context) -> None:
    """Run all steps, one after the other."""
    for step in STEPS:
        await ctx.step.run(step, body, ctx.run_id, step)


@app.function()
async def other(ctx: Context) -> None:
    """Be the second function that tests wait for."""
