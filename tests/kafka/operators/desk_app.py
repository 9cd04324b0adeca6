"""The app of the tests of the page: runs that wait for a person, and a queue that has no worker."""

from stepstream import App, Context, on

app = App("desk", queues=["gpu"])


@app.function(on("desk/go"))
async def work(ctx: Context) -> object:
    """Wait for an answer."""
    return await ctx.step.wait_for_signal("answer", signal=f"answer-{ctx.event.id}", timeout="1h")


@app.function()
async def other(ctx: Context) -> None:
    """Exist: tests wait until two functions are registered."""
