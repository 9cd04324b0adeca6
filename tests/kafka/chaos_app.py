"""The app of the kill tests: three steps, a nap and a wait; each body leaves a line in a file."""

import asyncio
import os
import time

from stepstream import App, Context, on

app = App("chaos")
EFFECTS = os.environ.get("CHAOS_EFFECTS", "/dev/null")


async def effect(run_id: str, step: str) -> str:
    """Leave a line that says who ran, and when (Unix ms)."""
    line = f"{run_id} {step} {time.time_ns() // 1_000_000}\n".encode()
    file = os.open(EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, line)
    finally:
        os.close(file)
    return step


@app.function(on("chaos/go"), backoff="1s")
async def work(ctx: Context) -> list[str]:
    """Run a step, two side by side beside a nap, and wait for an event that another run sends."""
    number = ctx.event.data["n"]
    first = await ctx.step.run("first", effect, ctx.run_id, "first")
    left, right, _ = await asyncio.gather(
        ctx.step.run("left", effect, ctx.run_id, "left"),
        ctx.step.run("right", effect, ctx.run_id, "right"),
        ctx.step.sleep("nap", "200ms"),
    )
    echo, _ = await asyncio.gather(
        ctx.step.wait_for_event("echo", event="chaos/echo", match="data.n", timeout="10m"),
        ctx.step.send_event("call", ctx.event.__class__("chaos/call", {"n": number})),
    )
    last = await ctx.step.run("last", effect, ctx.run_id, "last")
    return [first, left, right, "echo" if echo else "nothing", last]


@app.function(on("chaos/call"), backoff="1s")
async def answer(ctx: Context) -> str:
    """Answer the run that called."""
    await ctx.step.send_event("echo", ctx.event.__class__("chaos/echo", {"n": ctx.event.data["n"]}))
    return await ctx.step.run("told", effect, ctx.run_id, "told")
