"""The app of the test of roll-outs, in two releases: ROLLOUT=new has a function more."""

import os

from stepstream import App, Context, on

app = App("rollout")


@app.function(on("rollout/kept"))
async def kept(ctx: Context) -> str:
    """Be there in both."""
    return await ctx.step.run("step", lambda: "kept")


if os.environ.get("ROLLOUT") == "new":

    @app.function(on("rollout/added"), retries=0)
    async def added(ctx: Context) -> str:
        """Be there in the new one."""
        return await ctx.step.run("step", lambda: "added")
