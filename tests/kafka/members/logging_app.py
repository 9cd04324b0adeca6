"""The app of the test of step logs: a function that logs and publishes between its steps and in their bodies."""

import logging
from pathlib import Path

from stepstream import App, Context, on
from tests.polling import until

app = App("logging", queues=["gpu"])
logger = logging.getLogger("logging_app")
TOKENS = 20


async def render(number: int) -> int:
    """Log in a body that a worker of a queue runs."""
    logger.warning("rendering %d", number)
    return number


async def publish(ctx: Context) -> None:
    """Publish what clients read one by one."""
    for number in range(TOKENS):
        await ctx.publish("tokens", number)
    await ctx.publish("all", TOKENS, shared=True)


@app.function(on("logging/go"))
async def work(ctx: Context) -> None:
    """Log before, in and after two steps."""
    logger.info("begins")
    await ctx.publish("state", "begins")
    await ctx.step.options(queue="gpu").run("render", render, ctx.event.data["n"])
    await ctx.step.run("publish", publish, ctx)
    ctx.logger.info("rendered")
    await ctx.step.sleep("nap", "1s")
    logger.info("ends")


def hold(file: str) -> None:
    """Log, and return once a file exists."""
    logger.info("holds")
    until(Path(file).exists)


@app.function(on("logging/slow"))
async def slow(ctx: Context) -> None:
    """Log in a body that runs until the test has seen its line."""
    await ctx.step.run("hold", hold, ctx.event.data["file"])


@app.function(on("logging/silent"))
async def silent(_ctx: Context) -> None:
    """Log nothing."""
