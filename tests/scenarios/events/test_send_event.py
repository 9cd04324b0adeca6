"""`send_event` returns ids; the events, the memo and the state change commit together."""

from itertools import product

import pytest

from stepstream import App, Context, Event, on
from stepstream.testing import Crash
from tests.scenarios.conftest import EngineOf


@pytest.mark.log
async def test_send_event_sends_once_and_returns_ids(engine_of: EngineOf) -> None:
    """The events start functions once, however often the code is replayed."""
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


async def test_sent_events_commit_with_their_step(engine_of: EngineOf) -> None:
    """The events, the memo and the state change commit together: a crash duplicates and loses none."""
    app = App("messages")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        return await ctx.step.send_event("send", [Event("child", {"n": n}) for n in range(3)])

    @app.function(on("child"))
    async def child(ctx: Context) -> int:
        return int(ctx.event.data["n"])

    for part, when in product(("worker", "engine"), ("before", "after")):
        crash = Crash(part, when, "send")  # type: ignore[arg-type]  # The product is of text.
        async with engine_of(app, crashes=[crash]) as engine:
            earlier = len(engine.runs("child"))
            await engine.send(Event("go"))
            assert len(engine.runs("child")) - earlier == 3


async def test_sending_one_event_returns_a_list_of_one_id(engine_of: EngineOf) -> None:
    """send_event(id, event) returns a list, too."""
    app = App("messages")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        return await ctx.step.send_event("send", Event("child", id="mine"))

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == ["mine"]


async def test_events_may_come_from_a_generator(engine_of: EngineOf) -> None:
    """Any iterable of events is accepted."""
    app = App("messages")

    @app.function(on("go"))
    async def function(ctx: Context) -> object:
        return await ctx.step.send_event("send", (Event("child", id=f"c{n}") for n in range(2)))  # type: ignore[arg-type]

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == ["c0", "c1"]
