"""An app for tests of frozen processes: a chain of steps, one of which suspends its process on request."""

import os
import signal
import sys
from pathlib import Path

from stepstream import App, Context, on

app = App("zombie")
STEPS = tuple(f"step-{number}" for number in range(6))
SUSPENDS_IN = STEPS[2]
SUSPENDED = "suspends itself"
EFFECTS = os.environ.get("CHAOS_EFFECTS", "/dev/null")


def suspend_on_request() -> bool:
    """Send SIGSTOP to this process, once, if its stop file exists; return whether it was suspended."""
    stop_file = Path(os.environ.get("ZOMBIE_STOP_FILE", "/nonexistent"))
    if not stop_file.exists():
        return False
    stop_file.unlink()
    print(SUSPENDED, file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
    return True


def append_line(run_id: str, step: str) -> None:
    """Append a line with run, step and process."""
    with Path(EFFECTS).open("a") as effects:
        effects.write(f"{run_id} {step} {os.getpid()}\n")


async def body(run_id: str, step: str) -> None:
    """Append a line, and suspend the process in the step that requests it."""
    append_line(run_id, step)
    if step == SUSPENDS_IN:
        suspend_on_request()


@app.function(on("zombie/go"), retries=0)
async def chain(ctx: Context) -> None:
    """Run all steps in sequence."""
    for step in STEPS:
        await ctx.step.run(step, body, ctx.run_id, step)


@app.function()
async def other(ctx: Context) -> None:
    """Exist: tests wait until two functions are registered."""
