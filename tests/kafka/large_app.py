"""The app of the test of large runs: results as large as they may be, a wait, and the sum of them."""

from stepstream import App, Context, on
from stepstream.contract.limits import MIB

app = App("large")
STEPS = 7


async def chunk() -> str:
    """Return a text whose JSON has 4 MiB."""
    return "x" * (4 * MIB - 2)


@app.function(on("large/go"), retries=0)
async def grow(ctx: Context) -> int:
    """Keep 28 MiB, wait, and count them."""
    chunks = [await ctx.step.run(f"chunk-{number}", chunk) for number in range(STEPS)]
    await ctx.step.wait_for_event("on", event="large/on", timeout="10m")
    return await ctx.step.run("count", lambda: sum(map(len, chunks)))


async def give_up(ctx: Context) -> None:
    """Be the second function that tests wait for."""


app.function(id="other")(give_up)
