"""The app of the test of bulk operations: a step that fails while a file exists."""

import os
from pathlib import Path

from stepstream import App, Context, NonRetriableError, on

app = App("bulk")
BROKEN = Path(os.environ.get("BULK_BROKEN", "/nonexistent"))
EFFECTS = os.environ.get("CHAOS_EFFECTS", "/dev/null")


def charge(number: int) -> int:
    """Append a line, or fail while the service is broken."""
    if BROKEN.exists():
        raise NonRetriableError("the bank is closed")
    file = os.open(EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(file, f"{number}\n".encode())
    os.close(file)
    return number


@app.function(on("bulk/go"), retries=0)
async def work(ctx: Context) -> int:
    """Run a step that may fail."""
    return await ctx.step.run("charge", charge, ctx.event.data["n"])


@app.function(on("bulk/other"))
async def other(ctx: Context) -> str:
    """Return the name of the event."""
    return ctx.event.name
