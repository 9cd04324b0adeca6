"""The app of the test of limits that operators change: runs that stay open, with a limit for each tenant."""

from stepstream import App, Concurrency, Context, on

app = App("limits")


@app.function(on("limits/go"), concurrency=Concurrency(1, counts="runs", key="event.data.tenant"))
async def work(ctx: Context) -> None:
    """Wait longer than the test takes."""
    await ctx.step.sleep("wait", "1h")
