"""`send_event(id, event | [events])` gives ids; events, memo and state change commit as one."""

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


async def test_send_event_sends_once_and_gives_ids(engine_of: EngineOf) -> None:
    """send_event(id, events) → ids; the events start functions, once, whatever is replayed."""
    app = App("messages")

    @app.function(on("go"))
    async def function(ctx: Context) -> object:
        ids = await ctx.step.send_event("send", [Event("child", {"n": 1}), Event("child", {"n": 2}, id="mine")])
        await ctx.step.sleep("nap", "1m")
        return ids

    @app.function(on("child"))
    async def child(ctx: Context) -> object:
        return ctx.event.id

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        ids = engine.run("function").output
        assert isinstance(ids, list)
        assert ids[1] == "mine"
        assert sorted(str(run.output) for run in engine.runs("child")) == sorted(map(str, ids))
