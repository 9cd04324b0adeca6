"""Waiting for events: which one wakes a run, which does not, and what happens when none comes."""

import asyncio

import pytest

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf


def waiting_app(**wait: str) -> App:
    """Make an app whose function waits once and returns the data of what came."""
    app = App("waits")

    @app.function(on("start"))
    async def function(ctx: Context) -> object:
        found = await ctx.step.wait_for_event("wait", event="answer", timeout="1d", **wait)
        return found.data if found else None

    return app


async def test_match_wants_the_same_value(engine_of: EngineOf) -> None:
    """match="data.id" means that both events have the same value there."""
    async with engine_of(waiting_app(match="data.id")) as engine:
        await engine.send(Event("start", {"id": 1}), Event("start", {"id": 2}))
        await engine.send(Event("answer", {"id": 2, "n": "b"}), Event("answer", {"id": 1, "n": "a"}))
        assert sorted(str(run.output) for run in engine.runs()) == [
            "{'id': 1, 'n': 'a'}",
            "{'id': 2, 'n': 'b'}",
        ]


@pytest.mark.parametrize("own", [{}, {"id": None}], ids=["missing", "null"])
async def test_a_missing_value_never_matches(engine_of: EngineOf, own: dict[str, None]) -> None:
    """A path that is missing or null on either side never matches."""
    async with engine_of(waiting_app(match="data.id")) as engine:
        await engine.send(Event("start", own))
        await engine.send(Event("answer", {}), Event("answer", {"id": None}))
        await engine.advance("1d")
        assert engine.run().output is None
        assert engine.run().steps[0].status == "timed_out"


async def test_an_expression_sees_both_events(engine_of: EngineOf) -> None:
    """if_ is CEL on `event`, the run's own, and `async`, the other; an error in it is no match."""
    condition = "async.data.id == event.data.id && async.data.amount >= event.data.least"
    async with engine_of(waiting_app(if_=condition)) as engine:
        await engine.send(Event("start", {"id": "x", "least": 10}))
        await engine.send(
            Event("answer", {"id": "x", "amount": 9}),
            Event("answer", {"id": "x"}),
            Event("answer", {"id": "y", "amount": 99}),
        )
        assert engine.run().status == "running"
        await engine.send(Event("answer", {"id": "x", "amount": 10}))
        assert engine.run().output == {"id": "x", "amount": 10}


async def test_an_expression_without_equality_works(engine_of: EngineOf) -> None:
    """A wait that no equality can index stands in the name's scan bucket."""
    async with engine_of(waiting_app(if_="async.data.n > event.data.n")) as engine:
        await engine.send(Event("start", {"n": 5}))
        await engine.send(Event("answer", {"n": 5}), Event("answer", {"n": 6}))
        assert engine.run().output == {"n": 6}


async def test_only_later_events_wake(engine_of: EngineOf) -> None:
    """Only events that come after the wait is registered count."""
    async with engine_of(waiting_app()) as engine:
        await engine.send(Event("answer", {"n": 1}))
        await engine.send(Event("start"))
        assert engine.run().status == "running"
        await engine.send(Event("answer", {"n": 2}))
        assert engine.run().output == {"n": 2}


async def test_lookback_sees_earlier_events(engine_of: EngineOf) -> None:
    """With lookback= an event within the window ends the wait at once, but never the run's own trigger."""
    app = App("waits", lookback="1h")

    @app.function(on("start"))
    async def function(ctx: Context) -> object:
        await ctx.step.sleep("nap", "10m")
        found = await ctx.step.wait_for_event("wait", event="start", match="data.id", timeout="1d", lookback="30m")
        return found.data if found else None

    async with engine_of(app) as engine:
        await engine.send(Event("start", {"id": 1, "n": 1}))
        await engine.advance("9m")
        await engine.send(Event("start", {"id": 1, "n": 2}))
        await engine.advance("2m")
        assert engine.runs()[0].output == {"id": 1, "n": 2}


async def test_one_event_wakes_all_and_starts_functions_too(engine_of: EngineOf) -> None:
    """One event wakes every run that matches, and starts every function it triggers."""
    app = waiting_app()

    @app.function(on("answer"))
    async def started(ctx: Context) -> str:
        return "started"

    async with engine_of(app) as engine:
        await engine.send(*[Event("start") for _ in range(3)])
        await engine.send(Event("answer", {"n": 1}))
        assert [run.output for run in engine.runs("function")] == [{"n": 1}] * 3
        assert engine.run("started").output == "started"


async def test_the_own_trigger_never_wakes(engine_of: EngineOf) -> None:
    """The event that started a run does not end its wait for that name."""
    app = App("waits")

    @app.function(on("ping"))
    async def function(ctx: Context) -> object:
        return await ctx.step.wait_for_event("again", event="ping", timeout="1h") is not None

    async with engine_of(app) as engine:
        await engine.send(Event("ping"))
        assert engine.run().status == "running"
        await engine.advance("1h")
        assert engine.run().output is False


async def test_a_run_cannot_miss_its_own_answer(engine_of: EngineOf) -> None:
    """All waits of a turn are registered before its other effects, also before step bodies that send."""
    app = App("waits")

    @app.function(on("start"))
    async def function(ctx: Context) -> list[object]:
        first, _ = await asyncio.gather(
            ctx.step.wait_for_event("a", event="echo", timeout="1h"),
            ctx.step.send_event("send", Event("echo", {"n": 1})),
        )
        second, _ = await asyncio.gather(
            ctx.step.wait_for_event("b", event="echo", timeout="1h"),
            ctx.step.run("outside", app.send, Event("echo", {"n": 2})),
        )
        return [first and first.data, second and second.data]

    async with engine_of(app) as engine:
        await engine.send(Event("start"))
        assert engine.run().output == [{"n": 1}, {"n": 2}]


async def test_a_late_event_is_rejected(engine_of: EngineOf) -> None:
    """A wait past its expiry gives None, and an event that comes then changes nothing."""
    async with engine_of(waiting_app()) as engine:
        await engine.send(Event("start"))
        await engine.advance("1d")
        await engine.send(Event("answer", {"n": 1}))
        assert engine.run().output is None
        assert [step.status for step in engine.run().steps] == ["timed_out"]


async def test_a_bad_expression_fails_at_the_call(engine_of: EngineOf) -> None:
    """A predicate that does not compile fails with the position and the reason."""
    async with engine_of(waiting_app(if_="async.data.x = 1")) as engine:
        await engine.send(Event("start"))
        assert "1:14" in str(engine.run().error)
