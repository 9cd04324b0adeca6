"""User code that misbehaves fails its own run, with a clear error, and harms neither the worker nor other runs."""

import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from stepstream import App, Context, Event, NonRetriableError, RetryAfterError, StepError, ThreadedContext, on
from tests.scenarios.conftest import EngineOf


class Unprintable(Exception):
    """An error whose message raises."""

    def __str__(self) -> str:
        raise ValueError("no text")


class OddCode(NonRetriableError):
    """An error whose code is not a string."""

    code = 402  # type: ignore[assignment]  # The point.


def leave() -> None:
    """Try to end the process."""
    sys.exit(3)


def exhaust() -> None:
    """Raise an error that a future does not accept."""
    next(iter(()))


def raising(error: Exception) -> Callable[[], None]:
    """Return a body that raises."""

    def body() -> None:
        raise error

    return body


def chain() -> None:
    """Raise an error with more contexts than Python's stack has frames."""
    error = ValueError()
    for _ in range(2 * sys.getrecursionlimit()):
        following = ValueError()
        following.__context__, error = error, following
    raise error


BODIES: dict[str, Callable[[], Any]] = {
    "exit": leave,
    "stop-iteration": exhaust,
    "unprintable": raising(Unprintable()),
    "odd-code": raising(OddCode("no")),
    "chain": chain,
    "retry-after-soon": lambda: raising(RetryAfterError("x", "soon"))(),
}


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("place", ["step", "async-step", "function", "plain-function"])
async def test_an_unusual_error_fails_its_own_run_only(engine_of: EngineOf, name: str, place: str) -> None:
    """Whatever is raised, the run fails or the step is a StepError, and another run completes."""
    app = App("hostile")
    body = BODIES[name]

    async def async_body() -> None:
        body()

    async def function(ctx: Context) -> str:
        if place == "function":
            body()
        try:
            await ctx.step.run("odd", async_body if place == "async-step" else body)
        except StepError:
            return "caught"
        return "never"

    def plain(ctx: ThreadedContext) -> str:
        body()
        return "never"

    app.function(on("go"), id="odd", retries=1, backoff="1s")(plain if place == "plain-function" else function)

    @app.function(on("go"))
    async def other(ctx: Context) -> str:
        return await ctx.step.run("fine", str, "fine")

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        odd = engine.run("odd")
        assert (odd.status, odd.output) in [("failed", None), ("completed", "caught")]
        assert (odd.status == "completed") == ("step" in place)
        assert engine.run("other").output == "fine"


async def test_a_backoff_that_raises_does_not_hang_the_run(engine_of: EngineOf) -> None:
    """A back-off of the user that fails is replaced by the default."""
    app = App("hostile")

    @app.function(on("go"), retries=1, backoff=lambda attempt: attempt / 0)
    async def function(ctx: Context) -> None:
        await ctx.step.run("odd", leave)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        assert engine.run().status == "failed"


@pytest.mark.parametrize("where", ["signal", "event", "function"])
async def test_a_lone_surrogate_fails_its_own_run_only(engine_of: EngineOf, where: str) -> None:
    """A lone surrogate in an error or a log line fails the run that has it; other runs continue."""
    app = App("hostile")
    ran: list[str] = []

    @app.function(on("odd"), retries=0)
    async def odd(ctx: Context) -> object:
        if where == "signal":
            return await ctx.step.wait_for_signal("s", signal="\ud800", timeout="1h")
        if where == "event":
            return await ctx.step.wait_for_event("s", event="\ud800", timeout="1h")
        return await ctx.step.invoke("s", function="\ud800")

    @app.function(on("fine"))
    async def fine(ctx: Context) -> None:
        await ctx.step.run("body", ran.append, "body")

    async with engine_of(app) as engine:
        await engine.send(Event("odd"), Event("fine"))
        assert engine.run("odd").status == "failed"
        assert engine.run("fine").status == "completed"
    assert ran == ["body"]


async def test_plain_functions_do_not_exhaust_each_others_threads(engine_of: EngineOf) -> None:
    """Many plain functions with plain bodies complete at the same time."""
    app = App("hostile")
    all_at_once = threading.Barrier(40, timeout=20)

    @app.function(on("go"), retries=0)
    def function(ctx: ThreadedContext) -> str:
        all_at_once.wait()
        return ctx.step.run("body", str, "done")

    async with engine_of(app) as engine:
        await engine.send(*[Event("go") for _ in range(40)])
        assert [run.output for run in engine.runs()] == ["done"] * 40
