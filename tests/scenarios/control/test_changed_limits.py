"""Operators change a limit while runs hold it and wait for it, for one value of its key or for all."""

from stepstream import App, Concurrency, Context, Event, Throttle, on
from stepstream.contract.operators.limit_settings import LimitAction, LimitChangeRequested, Override
from stepstream.testing import VirtualEngine
from tests.scenarios.conftest import EngineOf

BY_TENANT = "concurrency of function load by event.data.tenant"
STARTS = "throttle of function call"


async def change(engine: VirtualEngine, request: LimitChangeRequested) -> None:
    """Change a limit, and let all effects happen."""
    assert await engine.engine.operator.change_limit(request)
    await engine.until_idle()


async def test_numbers_for_a_key_count_before_those_for_the_name(engine_of: EngineOf) -> None:
    """Runs of the key start at once. Other keys have the number of the name; a reset ends both."""
    app = App("limits")

    @app.function(on("load"), concurrency=Concurrency(1, counts="runs", key="event.data.tenant"))
    async def load(ctx: Context) -> None:
        await ctx.step.sleep("nap", "10m")

    async with engine_of(app) as engine:
        await engine.send(*(Event("load", {"tenant": tenant}) for tenant in "aaaabbb"))
        assert len(engine.runs(status="running")) == 2
        await change(engine, LimitChangeRequested(BY_TENANT, LimitAction.SET, "a", Override(3)))
        assert len(engine.runs(status="running")) == 4
        await change(engine, LimitChangeRequested(BY_TENANT, LimitAction.SET, "", Override(2)))
        assert len(engine.runs(status="running")) == 5
        for key in ("a", ""):
            await change(engine, LimitChangeRequested(BY_TENANT, LimitAction.RESET, key))
        await engine.advance("10m")
        assert len(engine.runs(status="running")) == 2


async def test_a_paused_limit_lets_runs_pass_when_its_time_has_come(engine_of: EngineOf) -> None:
    """Runs that wait say who paused it, until when and why; they start afterwards."""
    app, started = App("limits"), list[int]()

    @app.function(on("call"), throttle=Throttle(60, "1h", burst=59))
    async def call(ctx: Context) -> None:
        await ctx.step.run("call", started.append, ctx.event.data["n"])

    async with engine_of(app) as engine:
        until = engine.now_ms + 600_000
        request = LimitChangeRequested(STARTS, LimitAction.PAUSE, until=until, by="ann", why="partner is down")
        await change(engine, request)
        await engine.send(Event("call", {"n": 0}))
        (why,) = await engine.why()
        assert "place 1 of 1 in its queue; ann paused the limit until 20" in why.text
        assert ": partner is down (since" in why.text
        for n in (1, 2):
            await engine.send(Event("call", {"n": n}))
        await engine.advance("9m")
        assert started == []
        await engine.advance("2m")
        assert sorted(started) == [0, 1, 2]
