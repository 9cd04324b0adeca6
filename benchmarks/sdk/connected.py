"""A function of three steps in the official SDK for Python, in a worker that connects."""

import asyncio

import inngest
from inngest.connect import connect

client = inngest.Inngest(app_id="connect")


async def add_one(number: int) -> int:
    """Be the smallest possible step."""
    return number + 1


@client.create_function(fn_id="three-steps", trigger=inngest.TriggerEvent(event="connect/three"))
async def three_steps(ctx: inngest.Context) -> int:
    """Run three steps, one after the other."""
    first = await ctx.step.run("one", add_one, 1)
    second = await ctx.step.run("two", add_one, first)
    return await ctx.step.run("three", add_one, second)


if __name__ == "__main__":
    asyncio.run(connect([(client, [three_steps])], instance_id="bench").start())
