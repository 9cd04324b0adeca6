"""A handler is recognized as async behind a decorator and as an object, and must declare the context that it gets."""

import asyncio
import functools
from collections.abc import Callable
from typing import Any

import pytest

from stepstream import App, Context, DefinitionError, Event, ThreadedContext, on
from tests.scenarios.conftest import EngineOf


async def handler(ctx: Context) -> str:
    """Use a step that must be awaited."""
    await ctx.step.sleep("nap", "1m")
    return await ctx.step.run("upper", str.upper, "done")


class Handler:
    """An object with an async call."""

    async def __call__(self, ctx: Context) -> str:
        """Handle as `handler` does."""
        return await handler(ctx)


def passing(function: Callable[[Context], Any]) -> Callable[[Context], Any]:
    """Decorate with a plain wrapper that returns what the function returns."""

    @functools.wraps(function)
    def wrapper(ctx: Context) -> Any:
        return function(ctx)

    return wrapper


def running(function: Callable[[Context], Any]) -> Callable[[Context], Any]:
    """Decorate with a plain wrapper that does not return the coroutine."""

    @functools.wraps(function)
    def wrapper(ctx: Context) -> Any:
        function(ctx).close()
        return "gone"

    return wrapper


def hiding(function: Callable[[Context], Any]) -> Callable[[Any], Any]:
    """Decorate without functools.wraps."""

    def wrapper(ctx: Any) -> Any:
        return function(ctx)

    return wrapper


ASYNC: dict[str, Callable[[Context], Any]] = {
    "decorated": passing(handler),
    "decorated twice": passing(passing(handler)),
    "object": Handler(),
    "method": Handler().__call__,
    "partial": functools.partial(passing(handler)),
    "partial of an object": functools.partial(Handler()),
}


@pytest.mark.parametrize("name", ASYNC)
async def test_an_async_handler_is_recognized(engine_of: EngineOf, name: str) -> None:
    """A handler that returns a coroutine gets a Context, however it is wrapped."""
    app = App("handlers")
    app.function(on("go"), id="function")(ASYNC[name])
    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        assert engine.run().output == "DONE"


@pytest.mark.parametrize(
    ("wrong", "words"),
    [(running(handler), "a decorator of it returned a str"), (hiding(handler), "use functools.wraps")],
    ids=["running", "hiding"],
)
async def test_a_decorator_that_breaks_its_handler_is_named(
    engine_of: EngineOf, wrong: Callable[[Any], Any], words: str
) -> None:
    """A decorator that swallows or hides the coroutine fails the run at once, with the remedy."""
    app = App("handlers")
    app.function(on("go"), id="function")(wrong)
    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        run = engine.run()
        assert run.status == "failed"
        assert words in str(run.error)


async def async_threaded(ctx: ThreadedContext) -> None:
    """Declare the context of a plain function."""
    await asyncio.sleep(0)


def plain_context(ctx: Context) -> None:
    """Declare the context of an async function."""


def plain_text(ctx: "Context") -> None:
    """Declare the context of an async function as text."""


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (async_threaded, "is async and declares a ThreadedContext"),
        (plain_context, "is not async and declares a Context"),
        (plain_text, "is not async and declares a Context"),
    ],
)
def test_the_wrong_context_is_refused_at_definition(wrong: Callable[[Any], Any], words: str) -> None:
    """A handler that declares the context that it does not get is refused, also as on_failure."""
    with pytest.raises(DefinitionError, match=words):
        App("handlers").function()(wrong)
    with pytest.raises(DefinitionError, match=words):
        App("handlers").function(on_failure=wrong)(handler)


def test_a_context_that_cannot_be_resolved_is_accepted() -> None:
    """An annotation that names nothing at run time, or both contexts, is no reason to refuse a handler."""

    def unresolved(ctx: "Missing") -> None:  # type: ignore[name-defined]  # noqa: F821 - the point
        """Do nothing."""

    def either(ctx: Context | ThreadedContext) -> None:
        """Do nothing."""

    app = App("handlers")
    app.function()(unresolved)
    app.function()(either)
    assert [function.is_async for function in app] == [False, False]
