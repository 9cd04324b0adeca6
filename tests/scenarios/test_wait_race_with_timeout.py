"""An event and the timeout at the same instant: exactly one of them wins.

Rule: "Event and timeout race for one memo: exactly one wins, by one state transition. A wait past its expiry rejects a
late event."
"""

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.history import StepEnded
from stepstream.contract.limits import TIMERS_PER_BATCH_MAX
from stepstream.sdk.event import to_record
from tests.scenarios.conftest import EngineOf


@pytest.mark.parametrize("match", ["", "data.id"])
@pytest.mark.parametrize("lead_ms", [-1, 0, 1])
async def test_exactly_one_wins(engine_of: EngineOf, match: str, lead_ms: int) -> None:
    """Whatever came first in time wins, at the very instant the timeout; the other leaves no trace in the run."""
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
        # The clock goes on without word to anybody, so that event and timer are found in one batch.
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


async def test_a_late_event_is_for_others(engine_of: EngineOf) -> None:
    """The event that came too late for one wait ends another that still stands."""
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


async def test_it_holds_when_more_waits_end_than_a_batch_takes(engine_of: EngineOf) -> None:
    """At the instant when more waits end than the engine ends in one batch, an event wakes none of those left."""
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
