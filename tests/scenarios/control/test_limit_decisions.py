"""A run says which limits it and its bodies have passed, in which place, and when it returned its permits."""

import asyncio

import pytest

from stepstream import App, Concurrency, Context, Event, Limit, on
from tests.scenarios.conftest import EngineOf


@pytest.mark.log
async def test_a_run_has_what_was_decided_on_its_limits(engine_of: EngineOf) -> None:
    """It returns its permit whenever it only waits, here for its sleep and for the units of a body."""
    tokens = Limit("tokens", 60, "1m", counts="units")
    app = App("limits", limits=[tokens])

    @app.function(on("go"), concurrency=Concurrency(1, counts="work", key="event.data.tenant"))
    async def work(ctx: Context) -> None:
        async def ask() -> None:
            ctx.settle(30)

        limited = ctx.step.options(limit=tokens, units=20)
        await ctx.step.sleep("nap", "1h")
        await asyncio.gather(limited.run("ask", ask), limited.run("ask again", ask), ctx.step.run("free", int))

    async with engine_of(app) as engine:
        await engine.send(Event("go", {"tenant": "a"}))
        await engine.advance("3h")
        run = engine.run()
        assert run.status == "completed"
    limits = [(each.passed[0].key if each.passed else "", each.returned) for each in run.limits]
    assert limits[:3] == [("a", False), ("", True), ("a", False)]
    assert set(limits[::2]) == {("a", False)}
    assert set(limits[1::2]) == {("", True)}
    passed, returned, again = (each.at for each in run.limits[:3])
    assert passed <= returned < returned + 50 * 60_000 < again
    steps = {step.id: step.limits for step in run.steps}
    assert steps["nap"] == steps["free"] == ()
    asked, waited = (steps[name][0].passed[0] for name in ("ask", "ask again"))
    assert [(each.limit, each.units, each.used) for each in (asked, waited)] == [("tokens", 20, 30)] * 2
    assert [asked.place, waited.place] == [0, 1]
    assert asked.waited_ms == 0 < waited.waited_ms


async def test_a_run_without_limits_has_no_decisions(engine_of: EngineOf) -> None:
    """Neither has one that waits for other things."""
    app = App("limits")

    @app.function(on("go"))
    async def work(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1h")
        await ctx.step.run("free", int)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("2h")
        assert (engine.run().limits, [step.limits for step in engine.run().steps]) == ((), [(), ()])
