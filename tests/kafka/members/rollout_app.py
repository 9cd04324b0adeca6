"""The app of the test of rollouts in two releases: the one with ROLLOUT=new has another function."""

import os

from stepstream import App, Context, on

app = App("rollout")


@app.function(on("rollout/kept"))
async def kept(ctx: Context) -> str:
    """Exist in both releases."""
    return await ctx.step.run("step", lambda: "kept")


if os.environ.get("ROLLOUT") == "new":

    @app.function(on("rollout/added"), retries=0)
    async def added(ctx: Context) -> str:
        """Exist in the new release."""
        return await ctx.step.run("step", lambda: "added")
