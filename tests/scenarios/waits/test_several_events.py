"""One step waits for the first of several events, or for all of them."""

from collections.abc import Mapping
from enum import Enum

import pytest

from stepstream import App, Context, Event, ThreadedContext, Wait, on
from tests.scenarios.conftest import EngineOf, on_disk

WAITS: Mapping[str, Wait] = {
    "paid": Wait("order.paid", match="data.id"),
    "refused": Wait("order.refused", if_="async.data.id == event.data.id"),
}


async def test_the_first_event_wins(engine_of: EngineOf) -> None:
    """The step has one result: the name and the event of the first match. A later one changes nothing."""
    app = App("waits")

    @app.function(on("start"))
    async def function(ctx: Context) -> object:
        match await ctx.step.wait_for_any("decision", WAITS, timeout="1d"):
            case (name, event):
                await ctx.step.sleep("nap", "1h")
                return [name, event.data]
        return None

    async with engine_of(app) as engine:
        await engine.send(Event("start", {"id": 1}))
        why = (await engine.why())[0].text
        assert "the first of: paid: 'order.paid' with data.id = 1; refused: 'order.refused' if async.data.id" in why
        await engine.send(Event("order.refused", {"id": 2}), Event("order.paid", {"id": 2}))
        await engine.send(Event("order.refused", {"id": 1}), Event("order.paid", {"id": 2}))
        await engine.send(Event("order.paid", {"id": 1}))
        await engine.advance("1h")
        assert engine.run().output == ["refused", {"id": 1}]
        assert [step.id for step in engine.run().steps] == ["decision", "nap"]


async def test_all_events_are_needed(engine_of: EngineOf) -> None:
    """The step ends with the last event; until then, the run says which are missing."""
    app = App("waits", lookback="1h")

    @app.function(on("start"))
    async def function(ctx: Context) -> object:
        early = {"early": Wait("early", match="data.id", lookback="1h")}
        came = await ctx.step.wait_for_all("all", {**WAITS, **early}, timeout="1d")
        return came and {name: event.name for name, event in came.items()}

    async with engine_of(app) as engine:
        await engine.send(Event("early", {"id": 1}))
        await engine.send(Event("start", {"id": 1}), Event("start", {"id": 2}))
        await engine.send(Event("order.paid", {"id": 1}), Event("order.paid", {"id": 2}))
        details = {step.detail for run in engine.runs() for step in run.steps}
        assert "all of: refused: order.refused async.data.id == event.data.id" in details
        await engine.send(Event("order.refused", {"id": 1}))
        await engine.advance("1d")
        outputs = [run.output for run in engine.runs()]
        assert {"paid": "order.paid", "refused": "order.refused", "early": "early"} in outputs
        assert None in outputs


class Decision(str, Enum):  # noqa: UP042 - a StrEnum has its value as text
    """Names whose text and hash differ from their values."""

    PAID = "paid"
    REFUSED = "refused"


async def test_names_may_be_those_of_an_enum(engine_of: EngineOf) -> None:
    """The code gets the names that it gave."""
    app = App("waits")
    waits = {Decision.PAID: Wait("order.paid"), Decision.REFUSED: Wait("order.refused")}

    @app.function(on("start"))
    async def function(ctx: Context) -> list[bool]:
        first = await ctx.step.wait_for_any("first", waits, timeout="1d")
        both = await ctx.step.wait_for_all("both", waits, timeout="1d")
        return [first is not None and first[0] is Decision.PAID, both is not None and both.keys() == waits.keys()]

    async with engine_of(app) as engine:
        await engine.send(Event("start"))
        await engine.send(Event("order.paid"))
        await engine.send(Event("order.paid"), Event("order.refused"))
        assert engine.run().output == [True, True]


async def test_plain_functions_wait_for_several_events(engine_of: EngineOf) -> None:
    """A plain function blocks, and gets the same values."""
    app = App("waits")

    @app.function(on("start"))
    def function(ctx: ThreadedContext) -> object:
        first = ctx.step.wait_for_any("any", WAITS, timeout="1d")
        both = ctx.step.wait_for_all("both", WAITS, timeout="1h")
        late = ctx.step.wait_for_any("late", WAITS, timeout="1h")
        return [first and first[0], both and sorted(both), late]

    async with engine_of(app) as engine:
        await engine.send(Event("start", {"id": 1}))
        await engine.send(Event("order.paid", {"id": 1}))
        await engine.send(Event("order.paid", {"id": 1}), Event("order.refused", {"id": 1}))
        await engine.advance("1h")
        assert engine.run().output == ["paid", ["paid", "refused"], None]


@pytest.mark.parametrize(
    ("waits", "reason"),
    [
        ({}, "give a dict of 1 to 20 waits"),
        ({str(n): Wait("e") for n in range(21)}, "give a dict of 1 to 20 waits"),
        ({"a b": Wait("e")}, "'a b' is no name of a wait"),
        ({"a": "order.paid"}, "use Wait\\('event.name', match="),
        ({"a": Wait("order.*")}, "a wait takes one event name"),
        ({"a": Wait("e", match="data.id", if_="true")}, "not both"),
        ({"a": Wait("e", lookback="1h")}, "write App"),
    ],
)
async def test_wrong_waits_are_refused(engine_of: EngineOf, waits: Mapping[str, Wait], reason: str) -> None:
    """A wrong argument fails at the call, with its step."""
    app = App("waits")

    @app.function(on("start"), retries=0)
    async def function(ctx: Context) -> None:
        with pytest.raises(Exception, match=reason):
            await ctx.step.wait_for_any("any", waits, timeout="1d")

    async with engine_of(app) as engine:
        await engine.send(Event("start"))
        assert engine.run().status == "completed"


@on_disk
async def test_a_result_of_other_waits_does_not_fit(engine_of: EngineOf) -> None:
    """Code that gives a step other waits than its result has gets an error that says so."""

    def app_with(waits: Mapping[str, Wait]) -> App:
        app = App("waits")

        @app.function(on("start"))
        async def function(ctx: Context) -> None:
            await ctx.step.wait_for_any("any", waits, timeout="1d")
            await ctx.step.sleep("nap", "1h")

        return app

    async with engine_of(app_with(WAITS)) as engine:
        await engine.send(Event("start", {"id": 1}))
        await engine.send(Event("order.paid", {"id": 1}))
        now = engine.now_ms
    async with engine_of(app_with({"other": Wait("other")}), now_ms=now) as engine:
        await engine.advance("1h")
        assert "the stored result is not of these waits" in str(engine.run().error)
