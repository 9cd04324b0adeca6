"""Functions that publish messages, and that ask a model, for `stepstream dev` in the benchmark of live streams."""

import asyncio
import time

from pydantic_ai import direct
from pydantic_ai.messages import ModelRequest
from pydantic_ai.models.test import TestModel

from stepstream import App, Context, on

app = App("streams")
model = TestModel(custom_output_text="yes")


@app.function(on("bench/publish"), id="publish")
async def publish(ctx: Context) -> int:
    """Publish the time (ns), `count` times with a pause in between; return how long that took (ns)."""

    async def body(count: int, pause_s: float) -> int:
        begun = time.time_ns()
        for _ in range(count):
            await ctx.publish("times", time.time_ns())
            if pause_s:
                await asyncio.sleep(pause_s)
        return time.time_ns() - begun

    return await ctx.step.run("publish", body, ctx.event.data["count"], ctx.event.data["pause_s"])


@app.function(on("bench/infer"), id="infer")
async def infer(ctx: Context) -> int:
    """Ask a model `count` times, one request after the other; return how long that took (ns)."""
    begun = await ctx.step.run("begin", time.time_ns)
    for number in range(ctx.event.data["count"]):
        await ctx.step.ai.infer(f"ask {number}", model=model, prompt="?")
    return await ctx.step.run("end", time.time_ns) - begun


@app.function(on("bench/bare"), id="bare")
async def bare(ctx: Context) -> int:
    """Ask a model as often in one step, without a step for each request; return how long that took (ns)."""

    async def body(count: int) -> int:
        begun = time.time_ns()
        for _ in range(count):
            await direct.model_request(model, [ModelRequest.user_text_prompt("?")])
        return time.time_ns() - begun

    return await ctx.step.run("ask", body, ctx.event.data["count"])
