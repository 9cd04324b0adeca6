"""An event cancels the runs whose function names it in cancel_on, wherever they are; others continue."""

import asyncio
from typing import Any

from stepstream import App, CancelOn, Context, Event, StepError, on
from stepstream.contract.events import event_record
from tests.fakes.waiting import until
from tests.scenarios.conftest import EngineOf

ORDER_CANCELLED = CancelOn("order.cancelled", match="data.id")


def sleeping_app(*rules: CancelOn) -> tuple[App, list[str]]:
    """Return an app whose function sleeps for an hour, and the list of what runs afterwards."""
    app, after = App("shop"), list[str]()

    async def on_failure(ctx: Context) -> None:
        after.append("on_failure")

    attributes = {"id": "event.data.id"}

    @app.function(
        on("order.created"), cancel_on=rules or [ORDER_CANCELLED], on_failure=on_failure, attributes=attributes
    )
    async def fulfil(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1h")
        await ctx.step.run("ship", lambda: after.append("ship"))

    return app, after


async def test_an_event_cancels_a_sleeping_run(engine_of: EngineOf) -> None:
    """The run that matches ends with the event as its reason, and nothing further starts; the other run continues."""
    app, after = sleeping_app()
    async with engine_of(app) as engine:
        await engine.send(Event("order.created", {"id": 1}), Event("order.created", {"id": 2}))
        await engine.send(Event("order.cancelled", {"id": 1}, id="c-1"))
        await engine.advance("2h")
        by_order = {str(run.attributes): run for run in engine.runs()}
        withdrawn, other = by_order["{'id': 1}"], by_order["{'id': 2}"]
        assert (withdrawn.status, other.status) == ("cancelled", "completed")
        error: Any = withdrawn.error
        assert error["message"] == "the run was cancelled by event order.cancelled (id c-1)"
        assert error["code"] == "run-cancelled"
    assert after == ["ship"]


async def test_an_event_before_the_run_does_not_cancel_it(engine_of: EngineOf) -> None:
    """Only what the log has after the admission of the run counts."""
    app, after = sleeping_app()
    async with engine_of(app) as engine:
        await engine.send(Event("order.cancelled", {"id": 1}))
        await engine.send(Event("order.created", {"id": 1}))
        await engine.advance("2h")
        assert engine.run().status == "completed"
    assert after == ["ship"]


async def test_an_event_cancels_a_run_that_waits_to_start(engine_of: EngineOf) -> None:
    """A run that is scheduled for later is cancelled and never starts."""
    app, after = sleeping_app()
    async with engine_of(app) as engine:
        await engine.send(Event("order.created", {"id": 1}, ts=engine.now_ms + 3_600_000))
        await engine.send(Event("order.cancelled", {"id": 1}))
        assert engine.run().status == "cancelled"
        await engine.advance("3h")
    assert after == []


async def test_an_event_cancels_a_paused_run(engine_of: EngineOf) -> None:
    """The run ends during the pause."""
    app, after = sleeping_app()
    async with engine_of(app) as engine:
        await engine.send(Event("order.created", {"id": 1}))
        await engine.pause(engine.run().run_id)
        await engine.send(Event("order.cancelled", {"id": 1}))
        assert engine.run().status == "cancelled"
        await engine.advance("3h")
    assert after == []


async def test_an_event_cancels_only_within_the_time_of_its_rule(engine_of: EngineOf) -> None:
    """The rule counts from the admission of the run; `if_` compares the two events."""
    rule = CancelOn("order.changed", if_="async.data.id == event.data.id && async.data.total == 0", timeout="10m")
    app, after = sleeping_app(rule)
    async with engine_of(app) as engine:
        await engine.send(*(Event("order.created", {"id": number}) for number in (1, 2)))
        await engine.send(Event("order.changed", {"id": 1, "total": 5}))
        await engine.send(Event("order.changed", {"id": 2, "total": 0}))
        assert sorted(run.status for run in engine.runs()) == ["cancelled", "running"]
        await engine.advance("11m")
        await engine.send(Event("order.changed", {"id": 1, "total": 0}))
        await engine.advance("1h")
        assert sorted(run.status for run in engine.runs()) == ["cancelled", "completed"]
    assert after == ["ship"]


async def test_an_event_stops_a_running_body(engine_of: EngineOf) -> None:
    """A body in flight is stopped, its result is discarded, and no code follows it."""
    app = App("shop")
    began, stopped = asyncio.Event(), asyncio.Event()
    after: list[str] = []

    async def body() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()

    @app.function(on("order.created"), cancel_on=[ORDER_CANCELLED])
    async def fulfil(ctx: Context) -> None:
        await ctx.step.run("long", body)
        after.append("code")

    async with engine_of(app) as engine:
        await engine.engine.send([event_record("order.created", {"id": 1})])
        await began.wait()
        await engine.engine.send([event_record("order.cancelled", {"id": 1})])
        await until(lambda: [run.status for run in engine.index.list()] == ["cancelled"])
        async with asyncio.timeout(30):
            await stopped.wait()
        await engine.until_idle()
        assert engine.run().status == "cancelled"
    assert after == []


async def test_the_caller_of_a_cancelled_run_gets_an_error(engine_of: EngineOf) -> None:
    """An invoked run is cancelled by its event; its caller can catch that."""
    app = App("shop")

    @app.function(cancel_on=[CancelOn("order.cancelled")])
    async def ship(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1h")

    @app.function(on("order.created"))
    async def fulfil(ctx: Context) -> str:
        try:
            await ctx.step.invoke("ship", function=ship)
        except StepError as error:
            return error.code
        return "shipped"

    async with engine_of(app) as engine:
        await engine.send(Event("order.created"))
        await engine.send(Event("order.cancelled"))
        by_function = {run.function: run for run in engine.runs()}
        assert by_function["ship"].status == "cancelled"
        assert by_function["fulfil"].output == "run-cancelled"


async def test_a_trigger_does_not_cancel_its_own_run(engine_of: EngineOf) -> None:
    """A function that an event both starts and cancels keeps one run: that of the latest event."""
    app = App("shop")

    @app.function(on("sync"), cancel_on=[CancelOn("sync", match="data.id")])
    async def sync(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1h")

    async with engine_of(app) as engine:
        for _ in range(3):
            await engine.send(Event("sync", {"id": 1}))
        assert sorted(run.status for run in engine.runs()) == ["cancelled", "cancelled", "running"]
        await engine.advance("2h")
        assert sorted(run.status for run in engine.runs()) == ["cancelled", "cancelled", "completed"]


async def test_a_repeated_run_is_cancelled_by_its_event(engine_of: EngineOf) -> None:
    """The rules of a function also apply to a rerun."""
    app, after = sleeping_app()
    async with engine_of(app) as engine:
        await engine.send(Event("order.created", {"id": 1}))
        await engine.advance("2h")
        await engine.rerun(engine.run().run_id)
        await engine.send(Event("order.cancelled", {"id": 1}))
        assert sorted(run.status for run in engine.runs()) == ["cancelled", "completed"]
        await engine.advance("2h")
    assert after == ["ship"]
