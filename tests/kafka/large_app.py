"""The app of the test of large runs: results as large as they may be, a wait, and the sum of them."""

from stepstream import App, Context, on
from stepstream.contract.limits import MIB

app = App("large")
STEPS = 8
# The last bytes of the 32 MiB that a run may have are left for the event and the count.
LENGTH = 4 * MIB - 1_024


async def chunk() -> str:
    """Return a text nearly as long as the result of a step may be."""
    return "x" * LENGTH


@app.function(on("large/go"), retries=0)
async def grow(ctx: Context) -> int:
    """Keep 32 MiB, wait, and count them."""
    chunks = [await ctx.step.run(f"chunk-{number}", chunk) for number in range(STEPS)]
    await ctx.step.wait_for_event("on", event="large/on", timeout="10m")
    return await ctx.step.run("count", lambda: sum(map(len, chunks)))


async def give_up(ctx: Context) -> None:
    """Be the second function that tests wait for."""


app.function(id="other")(give_up)
