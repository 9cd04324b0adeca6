"""One run at a time waits for a signal name: on_conflict decides whether the second fails or replaces it."""

import pytest

from stepstream import App, Context, Event, on
from tests.scenarios.apps import signal_app
from tests.scenarios.conftest import EngineOf


@pytest.mark.parametrize(("on_conflict", "code"), [("fail", "signal-conflict"), ("replace", "signal-replaced")])
async def test_a_second_waiter_fails_or_replaces_the_first(engine_of: EngineOf, on_conflict: str, code: str) -> None:
    """fail: the second run fails. replace: it takes over, and the first gets a catchable error at once."""
    async with engine_of(signal_app(on_conflict)) as engine:
        (first,) = await engine.send(Event("go"))
        await engine.send(Event("go"))
        assert await engine.signal("approve", "yes")
        outputs = {run.output for run in engine.runs() if isinstance(run.output, str)}
        assert outputs == {code, "yes"}
        (earlier,) = engine.index.list(event_id=first)
        shown = engine.index.show(earlier.run_id)
        assert shown is not None
        assert shown.output == ("yes" if on_conflict == "fail" else code)


async def test_a_signal_conflict_is_not_retried(engine_of: EngineOf) -> None:
    """A conflict that is not caught fails the run at once."""
    app = App("messages")

    @app.function(on("go"))
    async def function(ctx: Context) -> object:
        return await ctx.step.wait_for_signal("wait", signal="approve", timeout="1h")

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.send(Event("go"))
        assert sorted(run.status for run in engine.runs()) == ["failed", "running"]
        assert await engine.signal("approve")
