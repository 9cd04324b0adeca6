"""The app of the test of large runs: results of the largest allowed size, a wait, and their sum."""

from stepstream import App, Context, on
from stepstream.contract.limits import MIB

app = App("large")
STEPS = 8
# The rest of the 32 MiB that a run may have is for the event and the sum.
LENGTH = 4 * MIB - 1_024


async def chunk() -> str:
    """Return a text of nearly the largest size of a result."""
    return "x" * LENGTH


@app.function(on("large/go"), retries=0)
async def grow(ctx: Context) -> int:
    """Keep 32 MiB of results, wait, and count their characters."""
    chunks = [await ctx.step.run(f"chunk-{number}", chunk) for number in range(STEPS)]
    await ctx.step.wait_for_event("on", event="large/on", timeout="10m")
    return await ctx.step.run("count", lambda: sum(map(len, chunks)))


async def other(ctx: Context) -> None:
    """Exist: tests wait until two functions are registered."""


app.function(id="other")(other)
