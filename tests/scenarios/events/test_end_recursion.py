"""A run that was started by the end of another run emits no end events."""

import pytest

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


@pytest.mark.parametrize("end", ["completed", "failed", "cancelled"])
async def test_a_listener_of_ends_emits_no_end_events(engine_of: EngineOf, end: str) -> None:
    """A function that every end starts runs once for one run, however it ends itself."""
    app = App("ends")
    received: list[str] = []

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        """Return at once."""

    @app.function(*[on(f"stream/function.{name}") for name in ("finished", "failed", "cancelled")], retries=0)
    async def listener(ctx: Context) -> None:
        received.append(str(ctx.event.data["function_id"]))
        if end == "failed":
            raise ValueError("no")
        await ctx.step.sleep("nap", "1h")

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        if end == "cancelled":
            assert await engine.cancel(engine.run("listener").run_id)
        await engine.advance("2h")
        assert engine.run("listener").status == end
    assert set(received) == {"function"}


async def test_an_on_failure_handler_emits_no_end_events(engine_of: EngineOf) -> None:
    """on_failure runs as a separate function, whose end, even as a failure, emits no event."""
    app = App("ends")
    received: list[str] = []

    async def handler(ctx: Context) -> None:
        raise ValueError("worse")

    @app.function(on("go"), on_failure=handler, retries=0)
    async def function(ctx: Context) -> None:
        raise ValueError("no")

    @app.function(on("stream/function.finished"), on("stream/function.failed"))
    async def listener(ctx: Context) -> None:
        received.append(f"{ctx.event.name} of {ctx.event.data['function_id']}")

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run("function-on-failure").status == "failed"
    assert sorted(received) == ["stream/function.failed of function", "stream/function.finished of function"]


async def test_a_function_that_a_listener_invokes_emits_none(engine_of: EngineOf) -> None:
    """A listener that invokes another function does not receive the end of that one, so it does not loop."""
    app = App("ends")

    @app.function(on("go"))
    async def helper(ctx: Context) -> None:
        """Return at once."""

    @app.function(on("stream/function.finished"))
    async def listener(ctx: Context) -> None:
        await ctx.step.invoke("help", function=helper)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert len(engine.runs("listener")) == 1
        assert len(engine.runs("helper")) == 2
