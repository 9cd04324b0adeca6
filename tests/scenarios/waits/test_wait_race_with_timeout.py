"""If an event and the timeout come at the same instant, exactly one of them wins."""

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.history import StepEnded
from stepstream.contract.limits import TIMERS_PER_BATCH_MAX
from stepstream.sdk.event import to_record
from tests.scenarios.conftest import EngineOf


@pytest.mark.parametrize("match", ["", "data.id"])
@pytest.mark.parametrize("lead_ms", [-1, pytest.param(0, marks=pytest.mark.log), 1])
async def test_event_and_timeout_have_exactly_one_winner(engine_of: EngineOf, match: str, lead_ms: int) -> None:
    """Whichever came first wins, at the same instant the timeout; the other leaves no trace in the run."""
    app = App("race")
    seen: list[bool] = []

    @app.function(on("start"))
    async def function(ctx: Context) -> bool:
        found = await ctx.step.wait_for_event("wait", event="answer", match=match, timeout="1h")
        seen.append(found is not None)
        await ctx.step.sleep("nap", "1h")
        return found is not None

    async with engine_of(app) as engine:
        await engine.send(Event("start", {"id": 1}))
        due = engine.now_ms + 3_600_000
        # The clock moves without a notification, so that one batch finds both the event and the timer.
        engine.clock.advance_to(due - lead_ms)
        await engine.engine.send([to_record(Event("answer", {"id": 1}))])
        await engine.until_idle()
        await engine.advance("2h")
        run = engine.run()
        assert run.output is (lead_ms > 0)
        assert set(seen) == {lead_ms > 0}
        wait, _ = run.steps
        assert wait.status == ("completed" if lead_ms > 0 else "timed_out")
        ends = [entry for entry in engine.history if isinstance(entry, StepEnded) and entry.id == "wait"]
        assert len(ends) == 1


async def test_a_late_event_ends_other_waits(engine_of: EngineOf) -> None:
    """An event that comes too late for one wait ends another that is still open."""
    app = App("race")

    @app.function(on("start"))
    async def function(ctx: Context) -> bool:
        return await ctx.step.wait_for_event("wait", event="answer", timeout=ctx.event.data["wait"]) is not None

    async with engine_of(app) as engine:
        await engine.send(Event("start", {"wait": "1h"}), Event("start", {"wait": "2h"}))
        engine.clock.advance_to(engine.now_ms + 3_600_000)
        await engine.engine.send([to_record(Event("answer"))])
        await engine.until_idle()
        assert sorted(str(run.output) for run in engine.runs()) == ["False", "True"]


@pytest.mark.slow
async def test_no_wait_of_a_large_batch_has_two_winners(engine_of: EngineOf) -> None:
    """More waits expire at one instant than one batch handles: an event at that instant wakes none of the rest."""
    app = App("race")
    runs = TIMERS_PER_BATCH_MAX + 50

    @app.function(on("start"))
    async def function(ctx: Context) -> bool:
        return await ctx.step.wait_for_event("wait", event="answer", timeout="1h") is not None

    async with engine_of(app) as engine:
        await engine.send(*[Event("start") for _ in range(runs)])
        engine.clock.advance_to(engine.now_ms + 3_600_000)
        await engine.engine.send([to_record(Event("answer"))])
        await engine.until_idle()
        assert [run.output for run in engine.runs()] == [False] * runs
