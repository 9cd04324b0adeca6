"""Functions with limits, and what ends a run from outside."""

import datetime
from typing import Any, Literal

import inngest

from tests.gateway.sdks.python.sdk import APP, after, count, define

SECOND, HOUR = datetime.timedelta(seconds=1), datetime.timedelta(hours=1)
ONE = [inngest.Concurrency(limit=1)]
_RUNNING = [0]


async def overlap() -> int:
    """Return how many other calls are running."""
    _RUNNING[0] += 1
    await after(0.1)
    _RUNNING[0] -= 1
    return _RUNNING[0]


async def number(ctx: inngest.Context) -> Any:
    """Return the number of the event."""
    return ctx.event.data["n"]


define("throttle", throttle=inngest.Throttle(limit=1, period=SECOND))(number)
define("rate-limit", rate_limit=inngest.RateLimit(limit=1, period=HOUR))(number)
define("debounce", debounce=inngest.Debounce(period=SECOND))(number)
define("idempotency", idempotency="event.data.n")(number)
define("event-id")(number)
define("conditional", condition="event.data.n > 1")(number)


@define("concurrency", concurrency=ONE)
async def concurrency(ctx: inngest.Context) -> Any:
    """Run one step at a time."""
    return await ctx.step.run("overlap", overlap)


def define_singleton(mode: Literal["skip", "cancel"]) -> None:
    """Define a function of which one run is open."""

    @define(f"singleton-{mode}", singleton=inngest.Singleton(mode=mode))
    async def singleton(ctx: inngest.Context) -> Any:
        await ctx.step.sleep("nap", datetime.timedelta(seconds=2))
        return ctx.event.data["n"]


define_singleton("skip")
define_singleton("cancel")


@define("priority", concurrency=ONE, priority=inngest.Priority(run="event.data.priority"))
async def priority(ctx: inngest.Context) -> Any:
    """Return the place of a run among those of the function."""

    async def order() -> list[Any]:
        await after(0.5)
        return [ctx.event.data["n"], count("priority")]

    return await ctx.step.run("order", order)


@define(
    "cancel-on", cancel=[inngest.Cancel(event=f"{APP}/cancel", if_exp="async.data.n == event.data.n", timeout=HOUR)]
)
async def cancel_on(ctx: inngest.Context) -> None:
    """Send the event that cancels the run."""
    await ctx.step.send_event("cancel", inngest.Event(name=f"{APP}/cancel", data=ctx.event.data))
    await ctx.step.sleep("long", HOUR)


@define("finish-timeout", timeouts=inngest.Timeouts(finish=SECOND))
async def finish_timeout(ctx: inngest.Context) -> None:
    """Take too long."""
    await ctx.step.sleep("long", HOUR)
