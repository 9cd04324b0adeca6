"""The on_failure handler runs as a separate function with the original event and the error."""

import pytest

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


async def test_on_failure_gets_the_event_and_the_error(engine_of: EngineOf) -> None:
    """The handler runs as a separate function; it is not called for a cancelled run."""
    app = App("failure")
    handled: list[object] = []

    async def handler(ctx: Context) -> None:
        data = ctx.event.data
        handled.append((data["event"]["data"], data["error"]["message"]))

    @app.function(on("go"), on_failure=handler, retries=0)
    async def function(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1h")
        raise ValueError("broken")

    async with engine_of(app) as engine:
        await engine.send(Event("go", {"n": 1}), Event("go", {"n": 2}))
        first, second = engine.runs("function")
        assert await engine.cancel(second.run_id)
        assert not await engine.cancel(second.run_id)
        await engine.advance("1h")
        assert {run.status for run in engine.runs("function")} == {"failed", "cancelled"}
        assert first.run_id != second.run_id
    assert len(handled) == 1
    assert handled[0] in [({"n": 1}, "broken"), ({"n": 2}, "broken")]


@pytest.mark.parametrize("error", [ValueError(), AssertionError(), TimeoutError()], ids=repr)
async def test_an_error_without_a_message_has_all_fields(engine_of: EngineOf, error: Exception) -> None:
    """Handlers, views and the finished event read every field of an error, also of one without a message."""
    app = App("failure")
    seen: list[dict[str, str]] = []

    async def handler(ctx: Context) -> None:
        seen.append(ctx.event.data["error"])

    @app.function(on("go"), on_failure=handler, retries=0)
    async def function(ctx: Context) -> None:
        raise error

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run("function").status == "failed"
        assert (seen[0]["name"], seen[0]["message"], seen[0]["code"]) == (type(error).__name__, "", "")
        assert type(error).__name__ in seen[0]["stack"]
