"""Functions whose steps or code fail, and functions that call others."""

import datetime
import os
from typing import Any

import inngest

from tests.gateway.sdks.python.sdk import APP, CLIENT, count, define, value

SECOND = datetime.timedelta(seconds=1)


def again(message: str = "again") -> inngest.RetryAfterError:
    """Return an error after which the next attempt starts in a second."""
    return inngest.RetryAfterError(message, SECOND)


@define("retried-step")
async def retried_step(ctx: inngest.Context) -> Any:
    """Return how often the body was called."""

    async def flaky() -> int:
        calls = count("retried-step", ctx.run_id)
        if calls < 3:
            raise again()
        return calls

    return await ctx.step.run("flaky", flaky)


@define("retried-function")
async def retried_function(ctx: inngest.Context) -> Any:
    """Fail between steps once."""
    first = await ctx.step.run("first", value, "first")
    if ctx.attempt == 0:
        raise again()
    return [first, ctx.attempt]


@define("default-back-off", retries=1)
async def default_back_off(ctx: inngest.Context) -> Any:
    """Return how often the body was called."""

    async def flaky() -> int:
        calls = count("default-back-off", ctx.run_id)
        if calls < 2:
            raise ValueError("no reason")
        return calls

    return await ctx.step.run("flaky", flaky)


@define("exhausted-step", retries=1)
async def exhausted_step(ctx: inngest.Context) -> None:
    """Fail at each attempt of a step."""

    async def broken() -> None:
        raise again(f"call {count('exhausted-step', ctx.run_id)}")

    await ctx.step.run("broken", broken)


@define("exhausted-function", retries=1)
async def exhausted_function(ctx: inngest.Context) -> None:
    """Fail at each attempt."""
    raise again(f"attempt {ctx.attempt}")


@define("step-error-caught", retries=0)
async def step_error_caught(ctx: inngest.Context) -> Any:
    """Catch the error of a step, and continue."""

    async def broken() -> None:
        raise TypeError("no number")

    try:
        await ctx.step.run("broken", broken)
    except inngest.StepError as error:
        return [True, error.message, await ctx.step.run("after", value, "after")]


@define("non-retriable-step")
async def non_retriable_step(ctx: inngest.Context) -> None:
    """Fail for good in a step."""

    async def refuse() -> None:
        raise inngest.NonRetriableError(f"call {count('non-retriable-step', ctx.run_id)}")

    await ctx.step.run("refuse", refuse)


@define("non-retriable-function")
async def non_retriable_function(ctx: inngest.Context) -> None:
    """Fail for good."""
    raise inngest.NonRetriableError(f"attempt {ctx.attempt}")


async def note_failure(ctx: inngest.Context) -> Any:
    """Return what is known of the failure of another function."""
    data: Any = ctx.event.data
    return [await ctx.step.run("note", value, data["error"]["message"]), data["function_id"], data["event"]["data"]]


@define("on-failure", retries=0, on_failure=note_failure)
async def on_failure(ctx: inngest.Context) -> None:
    """Fail."""
    raise ValueError("broken")


@define("callee")
async def callee(ctx: inngest.Context) -> Any:
    """Return the double of what a caller gave."""
    return await ctx.step.run("double", value, int(str(ctx.event.data["x"])) * 2)


@define("refuses")
async def refuses(ctx: inngest.Context) -> None:
    """Fail for good."""
    raise inngest.NonRetriableError("no use")


@define("slow")
async def slow(ctx: inngest.Context) -> str:
    """Return later than a caller waits."""
    await ctx.step.sleep("nap", datetime.timedelta(seconds=4))
    return "slow"


@define("invoke")
async def invoke(ctx: inngest.Context) -> Any:
    """Return the result of another function."""
    return await ctx.step.invoke("call", function=callee, data={"x": 21})


@define("invoke-timeout", retries=0)
async def invoke_timeout(ctx: inngest.Context) -> Any:
    """Wait for another function for too short a time."""
    try:
        return await ctx.step.invoke("call", function=slow, timeout=SECOND)
    except inngest.StepError:
        return ["caught", True]


@define("invoke-unknown", retries=0)
async def invoke_unknown(ctx: inngest.Context) -> Any:
    """Call a function that does not exist."""
    try:
        return await ctx.step.invoke_by_id("call", function_id="missing")
    except inngest.StepError:
        return ["caught", True]


@define("invoke-error")
async def invoke_error(ctx: inngest.Context) -> Any:
    """Catch the error of another function."""
    try:
        return await ctx.step.invoke("call", function=refuses)
    except inngest.StepError as error:
        return error.message


@define("invoke-uncaught")
async def invoke_uncaught(ctx: inngest.Context) -> Any:
    """Fail with another function."""
    return await ctx.step.invoke("call", function=refuses)


@define("invoke-foreign")
async def invoke_foreign(ctx: inngest.Context) -> Any:
    """Return the result of a function of an app with another SDK."""
    app = os.environ["FOREIGN"]
    return await ctx.step.invoke_by_id("call", app_id=app, function_id="foreign", data={"from": APP})


@define("foreign")
async def foreign(ctx: inngest.Context) -> Any:
    """Serve another app."""
    return ["served", len(str(ctx.event.data["from"])) > 0]


@define("send-from-code")
async def send_from_code(ctx: inngest.Context) -> Any:
    """Send an event outside of a step."""
    await CLIENT.send(inngest.Event(name=f"{APP}/sent-from-code", data={"n": 1}))
    return "sent"


@define("sent-from-code")
async def sent_from_code(ctx: inngest.Context) -> Any:
    """Run for the event that was sent."""
    return ctx.event.data["n"]
