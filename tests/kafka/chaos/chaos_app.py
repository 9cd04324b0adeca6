"""The app of the chaos tests: steps that append a line to a file, sleeps, retries, calls and waits for other runs."""

import asyncio
import os
import time

from stepstream import App, Context, Event, on

app = App("chaos")
EFFECTS = os.environ.get("CHAOS_EFFECTS", "/dev/null")
FLAKY_EVERY = 5
_failed: set[str] = set()


async def effect(run_id: str, step: str) -> str:
    """Append a durable line with run, step and time (Unix ms)."""
    line = f"{run_id} {step} {time.time_ns() // 1_000_000}\n".encode()
    file = os.open(EFFECTS, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_DSYNC)
    try:
        os.write(file, line)
    finally:
        os.close(file)
    return step


async def flaky_effect(run_id: str, step: str) -> str:
    """Append a line, and fail on the first attempt in this process."""
    found = await effect(run_id, step)
    if run_id not in _failed:
        _failed.add(run_id)
        raise ValueError("once")
    return found


@app.function(on("chaos/call"), backoff="1s")
async def answer(ctx: Context) -> str:
    """Answer the calling run by the event that it waits for, which names this run."""
    await ctx.step.send_event("echo", Event("chaos/echo", {"n": ctx.event.data["n"], "by": ctx.run_id}))
    return await ctx.step.run("answered", effect, ctx.run_id, "answered")


@app.function(on("chaos/go"), backoff="1s")
async def work(ctx: Context) -> dict[str, object]:
    """Run a step, then two in parallel with a sleep, and wait for an event that another run sends.

    Runs with odd numbers invoke the other function, the rest start it by an event. Some have a step that fails once.
    """
    number = ctx.event.data["n"]
    first = await ctx.step.run("first", effect, ctx.run_id, "first")
    left, right, _ = await asyncio.gather(
        ctx.step.options(retries=20).run("left", effect if number % FLAKY_EVERY else flaky_effect, ctx.run_id, "left"),
        ctx.step.run("right", effect, ctx.run_id, "right"),
        ctx.step.sleep("nap", "200ms"),
    )
    echo, _ = await asyncio.gather(
        ctx.step.wait_for_event("echo", event="chaos/echo", match="data.n", timeout="1h"),
        ctx.step.invoke("call", function=answer, data={"n": number})
        if number % 2
        else ctx.step.send_event("call", Event("chaos/call", {"n": number})),
    )
    last = await ctx.step.run("last", effect, ctx.run_id, "last")
    return {"n": number, "steps": [first, left, right, last], "echo": echo and echo.data}
