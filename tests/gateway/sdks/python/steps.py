"""Functions whose steps succeed: each kind of step, and what the code gets from it."""

import datetime
import time
from typing import Any

import inngest

from tests.gateway.sdks.python.sdk import APP, after, define, value

NESTED = {"list": [1, [2, {"text": "é 😀", "none": None}]], "float": 1.5, "empty": {}, "big": 9007199254740991}
MIB = 1_048_576
SECOND, MINUTE = datetime.timedelta(seconds=1), datetime.timedelta(minutes=1)


async def now() -> int:
    """Return the time, in milliseconds."""
    return time.time_ns() // 1_000_000


@define("three-steps")
async def three_steps(ctx: inngest.Context) -> Any:
    """Return the sum of three results."""
    first = await ctx.step.run("first", value, 1)
    second = await ctx.step.run("second", value, 2)
    third = await ctx.step.run("third", value, ctx.event.data["n"])
    return {"sum": first + second + int(str(third)), "attempt": ctx.attempt}


@define("nested-data")
async def nested_data(ctx: inngest.Context) -> Any:
    """Return the data of a step and of the event."""
    nested = await ctx.step.run("nested", value, NESTED)
    return {"nested": nested, "event": dict(ctx.event.data)}


@define("null-results")
async def null_results(ctx: inngest.Context) -> Any:
    """Return the results of steps that return nothing."""
    return [await ctx.step.run("nothing", value, None), await ctx.step.run("null", value, None)]


@define("no-result")
async def no_result(ctx: inngest.Context) -> None:
    """Return nothing."""
    await ctx.step.run("only", value, 1)


@define("no-steps")
async def no_steps(ctx: inngest.Context) -> Any:
    """Return at once."""
    return ctx.event.data["n"]


@define("loop")
async def loop(ctx: inngest.Context) -> Any:
    """Use the id of a step again and again."""
    return [await ctx.step.run("square", value, number * number) for number in range(5)]


@define("context")
async def context(ctx: inngest.Context) -> Any:
    """Return what is known of the run."""
    return {
        "event": ctx.event.name,
        "events": len(ctx.events),
        "attempt": ctx.attempt,
        "run": len(ctx.run_id),
        "id": len(ctx.event.id) > 0,
        "ts": ctx.event.ts > 1_700_000_000_000,
    }


@define("large-state")
async def large_state(ctx: inngest.Context) -> Any:
    """Return more from steps than fits into a call."""
    return [len(await ctx.step.run("mib", value, "x" * MIB)) for _ in range(5)]


@define("sleep")
async def sleep(ctx: inngest.Context) -> Any:
    """Return whether a sleep took as long as it should."""
    start = await ctx.step.run("start", now)
    await ctx.step.sleep("nap", SECOND)
    return await ctx.step.run("end", now) - start >= 1_000


@define("sleep-until")
async def sleep_until(ctx: inngest.Context) -> Any:
    """Return whether a sleep ended when it should."""
    due = await ctx.step.run("start", now) + 1_000
    await ctx.step.sleep_until("nap", datetime.datetime.fromtimestamp(due / 1_000, datetime.UTC))
    return await ctx.step.run("end", now) >= due


def define_wait(id: str) -> None:
    """Define a function that waits for the second one of two events, which it sends."""

    @define(id)
    async def wait(ctx: inngest.Context) -> Any:
        n = int(str(ctx.event.data["n"]))
        answers = [inngest.Event(name=f"{APP}/{id}-answer", data={"n": each}) for each in (n + 1, n)]
        condition = "async.data.n == event.data.n"
        found: Any = await ctx.group.parallel(
            (
                lambda: ctx.step.wait_for_event("wait", event=answers[0].name, if_exp=condition, timeout=MINUTE),
                lambda: ctx.step.send_event("answer", answers),
            )
        )
        return [found[0].name, dict(found[0].data)]


define_wait("wait-if")
define_wait("wait-match")


@define("wait-timeout")
async def wait_timeout(ctx: inngest.Context) -> Any:
    """Wait for an event that does not arrive."""
    return await ctx.step.wait_for_event("wait", event=f"{APP}/never", timeout=SECOND)


@define("send-events")
async def send_events(ctx: inngest.Context) -> Any:
    """Send two events, and return the lengths of their ids."""
    ids = await ctx.step.send_event("send", [inngest.Event(name=f"{APP}/sent", data={"n": n}) for n in (1, 2)])
    return [len(id) for id in ids]


@define("sent")
async def sent(ctx: inngest.Context) -> Any:
    """Run for each event that was sent."""
    return ctx.event.data["n"]


@define("parallel")
async def parallel(ctx: inngest.Context) -> Any:
    """Return the results of steps that run at a time, and of one after them."""
    results: Any = await ctx.group.parallel(
        (
            lambda: ctx.step.run("one", value, 1),
            lambda: ctx.step.run("two", value, 2),
            lambda: ctx.step.sleep("nap", SECOND),
            lambda: ctx.step.wait_for_event("wait", event=f"{APP}/never", timeout=SECOND),
        )
    )
    return [*results, await ctx.step.run("last", value, 3)]


async def late() -> str:
    """Return after a while."""
    await after(0.3)
    return "late"


@define("race")
async def race(ctx: inngest.Context) -> Any:
    """Return all results: the code continues when the first step ends, and this SDK waits for the others."""
    fast, slow = (lambda: ctx.step.run("fast", value, "fast")), (lambda: ctx.step.run("slow", late))
    return await ctx.group.parallel((fast, slow), parallel_mode=inngest.ParallelMode.RACE)
