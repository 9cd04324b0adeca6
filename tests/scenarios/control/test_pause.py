"""A paused run gets no code to run: what happens meanwhile is kept, and continues once when the pause ends."""

import asyncio
from collections import Counter

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.errors import InvalidInput
from stepstream.runtime.pauses import pause_of
from stepstream.sdk.event import to_record
from stepstream.testing import VirtualEngine
from tests.fakes.waiting import until
from tests.scenarios.conftest import EngineOf


class Shop:
    """An app with functions that wait in different ways, whose bodies are counted."""

    def __init__(self) -> None:
        self.app = App("pause", queues=["gpu"])
        self.ran: Counter[str] = Counter()
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()

        @self.app.function(on("sleep"))
        async def sleeps(ctx: Context) -> object:
            first = await ctx.step.run("first", self.body, "first")
            await ctx.step.sleep("nap", "1m")
            return [first, await ctx.step.run("second", self.body, "second")]

        @self.app.function(on("gather"))
        async def gathers(ctx: Context) -> object:
            return await asyncio.gather(
                ctx.step.wait_for_signal("approval", signal="approval", timeout="10m"),
                ctx.step.wait_for_event("paid", event="paid", timeout="1m"),
                ctx.step.options(queue="gpu").run("render", self.body_that_fails_once, "render"),
            )

        @self.app.function(on("long"))
        async def works(ctx: Context) -> object:
            long = await ctx.step.run("long", self.long_body)
            return [long, await ctx.step.run("next", self.body, "next")]

        @self.app.function(on("flaky"), backoff="1m")
        async def fails_once(ctx: Context) -> object:
            return await ctx.step.run("flaky", self.body_that_fails_once, "flaky")

    def body(self, step: str) -> str:
        """Run the body of a step."""
        self.ran[step] += 1
        return step

    def body_that_fails_once(self, step: str) -> str:
        """Run the body of a step, and fail the first time."""
        self.ran[step] += 1
        if self.ran[step] == 1:
            raise ValueError("once")
        return step

    async def long_body(self) -> str:
        """Run a body that ends when the test lets it."""
        self.ran["long"] += 1
        self.begun.set()
        await self.may_end.wait()
        return "long"


async def pause_during_a_body(engine: VirtualEngine, shop: Shop) -> str:
    """Pause a run while the body of its first step runs, and return its id once its history shows the pause.

    On Kafka the pause and the report of the body come by different topics, so nothing orders them by itself.
    """
    await engine.engine.send([to_record(Event("long"))])
    await shop.begun.wait()
    await until(engine.runs)
    run_id = engine.run().run_id
    assert await engine.engine.operator.pause(run_id, pause_of("", "test", "", engine.now_ms))
    await until(lambda: engine.run().paused)
    return run_id


@pytest.mark.log
async def test_a_paused_run_continues_where_it_was(engine_of: EngineOf) -> None:
    """The sleep is over during the pause; the code continues after it, and no body runs twice."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await engine.send(Event("sleep"))
        run_id = engine.run().run_id
        assert await engine.pause(run_id, why="bank is down")
        await engine.advance("2m")
        run = engine.run()
        assert (run.status, run.paused) == (
            "running",
            {"since": engine.now_ms - 120_000, "until": 0, "by": "test", "why": "bank is down"},
        )
        assert [(step.id, step.status) for step in run.steps] == [("first", "completed"), ("nap", "completed")]
        assert await engine.resume(run_id)
        run = engine.run()
        assert (run.status, run.output, run.paused) == ("completed", ["first", "second"], None)
        assert not await engine.pause(run_id)
        assert not await engine.resume(run_id)
    assert shop.ran == {"first": 1, "second": 1}


async def test_a_body_that_runs_when_the_pause_begins_may_end(engine_of: EngineOf) -> None:
    """Its result counts, and the next step starts only after the pause."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        run_id = await pause_during_a_body(engine, shop)
        shop.may_end.set()
        await engine.until_idle()
        assert [(step.id, step.status) for step in engine.run().steps] == [("long", "completed")]
        assert await engine.resume(run_id)
        assert engine.run().output == ["long", "next"]
    assert shop.ran == {"long": 1, "next": 1}


async def test_a_pause_and_a_resume_during_one_body(engine_of: EngineOf) -> None:
    """The body that runs is not started again, and its worker continues the run when it has ended."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        run_id = await pause_during_a_body(engine, shop)
        assert await engine.engine.operator.unpause(run_id)
        shop.may_end.set()
        await engine.until_idle()
        assert engine.run().output == ["long", "next"]
    assert shop.ran == {"long": 1, "next": 1}


async def test_what_happens_during_a_pause_is_kept(engine_of: EngineOf) -> None:
    """A signal, a timeout, and the next attempt of a step in a queue."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await engine.send(Event("gather"))
        run_id = engine.run().run_id
        await engine.pause(run_id)
        assert await engine.signal("approval", "yes")
        await engine.advance("5m")
        assert shop.ran == {"render": 1}
        assert engine.run().status == "running"
        await engine.resume(run_id)
        assert engine.run().output == ["yes", None, "render"]
    assert shop.ran == {"render": 2}


async def test_a_pause_ends_by_itself_or_is_changed(engine_of: EngineOf) -> None:
    """An attempt that was due during the pause follows it at once."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await engine.send(Event("flaky"))
        run_id = engine.run().run_id
        await engine.pause(run_id, until="1h")
        await engine.pause(run_id, until="2h")
        await engine.advance("119m")
        assert engine.run().status == "running"
        await engine.advance("1m")
        assert engine.run().output == "flaky"
        with pytest.raises(InvalidInput, match="within the next 366 days"):
            await engine.pause(run_id, until="2020-01-01T00:00:00Z")
        with pytest.raises(InvalidInput, match="write a duration such as 2h"):
            await engine.pause(run_id, until="tomorrow")
    assert shop.ran == {"flaky": 2}


async def test_a_scheduled_run_does_not_start_during_its_pause(engine_of: EngineOf) -> None:
    """It starts when the pause ends, or at its time if that is later."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await engine.send(Event("sleep", ts=engine.now_ms + 60_000))
        run_id = engine.run().run_id
        await engine.pause(run_id)
        await engine.advance("5m")
        assert (engine.run().status, shop.ran) == ("scheduled", {})
        await engine.resume(run_id)
        await engine.advance("1m")
        assert engine.run().output == ["first", "second"]


async def test_a_paused_run_can_be_cancelled(engine_of: EngineOf) -> None:
    """Nothing follows, also not at the end of the pause."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await engine.send(Event("sleep"))
        run_id = engine.run().run_id
        await engine.pause(run_id, until="1h")
        assert await engine.cancel(run_id)
        await engine.advance("2h")
        run = engine.run()
        assert (run.status, run.paused) == ("cancelled", None)
    assert shop.ran == {"first": 1}


async def test_a_paused_function_accepts_runs_and_starts_them_afterwards(engine_of: EngineOf) -> None:
    """Other functions run. A run that waits misses nothing, and everything continues once."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await engine.send(Event("sleep"))
        await engine.pause_function("sleeps", why="bank is down")
        await engine.send(Event("sleep"), Event("sleep", ts=engine.now_ms + 30_000), Event("flaky"))
        await engine.advance("5m")
        assert [run.status for run in engine.runs("fails-once")] == ["completed"]
        assert shop.ran == {"first": 1, "flaky": 2}
        assert not any(run.output for run in engine.runs("sleeps"))
        assert await engine.resume_function("sleeps")
        assert not await engine.resume_function("sleeps")
        await engine.advance("2m")
        assert [run.output for run in engine.runs("sleeps")] == 3 * [["first", "second"]]
    assert shop.ran == {"first": 3, "second": 3, "flaky": 2}


async def test_a_paused_queue_starts_no_body(engine_of: EngineOf) -> None:
    """The other steps of the run do not wait for it. It ends by itself."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await engine.pause_queue("pause", "gpu", until="2h")
        await engine.send(Event("gather"))
        assert await engine.signal("approval", "yes")
        await engine.advance("1h")
        reasons = [why.text for why in await engine.why() if why.code == "paused"]
        assert len(reasons) == 1
        assert reasons[0].startswith("The queue pause.gpu was paused by test at ")
        assert shop.ran == {}
        await engine.advance("2h")
        assert engine.run().output == ["yes", None, "render"]
    assert shop.ran == {"render": 2}


async def test_the_reason_of_a_run_of_a_paused_function(engine_of: EngineOf) -> None:
    """It has who paused the function, and how to resume it."""
    shop = Shop()
    async with engine_of(shop.app) as engine:
        await engine.pause_function("sleeps", why="bank is down")
        await engine.send(Event("sleep"))
        why = (await engine.why())[0]
        assert why.code == "paused"
        assert why.text.startswith("The function sleeps was paused by test at ")
        assert why.text.endswith(": bank is down.")
        assert why.remedy == "Resume it with `stepstream functions resume sleeps`."
