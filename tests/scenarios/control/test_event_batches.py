"""One run has the events of a batch: in its code, in the page, in a repetition, and for each run that invoked it."""

import asyncio
from typing import Any

import pytest

from stepstream import App, Batch, Context, Debounce, Event, on
from stepstream.runtime.readmodel.views import RunView
from tests.scenarios.conftest import EngineOf


def ids_of(run: RunView) -> list[int]:
    """Return the numbers in the data of the events of a run."""
    events: Any = run.events
    return [event["data"]["n"] for event in events]


@pytest.mark.log
async def test_one_run_has_all_events_of_a_batch(engine_of: EngineOf) -> None:
    """In order of arrival, also after the worker has lost it, and in a repetition; the other runs name it."""
    app = App("batches")

    @app.function(on("sold"), batch=Batch(3, "1m", key="event.data.shop"))
    async def report(ctx: Context) -> list[int]:
        first = await ctx.step.run("first", int, ctx.event.data["n"])
        await ctx.step.sleep("nap", "1h")
        return [first, *(event.data["n"] for event in ctx.events)]

    async with engine_of(app) as engine:
        for n in (1, 2, 3, 4):
            await engine.send(Event("sold", {"shop": "a", "n": n}))
        await engine.send(Event("sold", {"shop": "b", "n": 5}))
        leader, second, third, _, alone = engine.runs()
        assert ids_of(leader) == [1, 2, 3]
        assert [run.status for run in (leader, second, third, alone)] == ["running", "skipped", "skipped", "queued"]
        assert f"run {leader.run_id} has its event" in str(second.error)
        await engine.advance("2h")
        assert [run.output for run in engine.runs()] == [[1, 1, 2, 3], None, None, [4, 4], [5, 5]]
        again = await engine.rerun(leader.run_id)
        only = await engine.rerun(second.run_id)
        await engine.advance("1h")
        by_id = {run.run_id: run for run in engine.runs()}
        assert by_id[again].output == [1, 1, 2, 3]
        assert by_id[only].output == [2, 2]


async def test_each_run_that_invoked_a_batch_gets_its_result(engine_of: EngineOf) -> None:
    """An event for which the condition is false has a run alone, and its caller gets that result at once."""
    app = App("batches")

    @app.function(batch=Batch(10, "1m", if_="event.data.n > 0"))
    async def total(ctx: Context) -> int:
        return sum(event.data["n"] for event in ctx.events)

    @app.function(on("go"))
    async def caller(ctx: Context) -> list[int]:
        steps = [ctx.step.invoke(f"of {n}", function=total, data={"n": n}) for n in (0, 1, 2)]
        return list(await asyncio.gather(*steps))

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("10s")
        alone, waiting, _ = sorted(engine.runs("total"), key=ids_of)
        assert (alone.output, waiting.status) == (0, "queued")
        await engine.advance("1m")
        assert engine.run("caller").output == [0, 3, 3]


async def test_one_run_has_all_events_of_a_debounce(engine_of: EngineOf) -> None:
    """It starts once no other event came for a period, and each run that invoked it gets its result."""
    app = App("batches")

    @app.function(debounce=Debounce("30s", timeout="50s", keep="all"))
    async def total(ctx: Context) -> list[int]:
        return [event.data["n"] for event in ctx.events]

    @app.function(on("go"))
    async def caller(ctx: Context) -> list[int]:
        return await ctx.step.invoke("total", function=total, data=ctx.event.data)

    async with engine_of(app) as engine:
        for n in (1, 2, 3):
            await engine.send(Event("go", {"n": n}))
            await engine.advance("20s")
        assert [run.output for run in engine.runs("caller")] == [[1, 2, 3]] * 3


async def test_a_run_that_waits_for_its_batch_says_so(engine_of: EngineOf) -> None:
    """With the number of events that the batch has, and until when it waits at most."""
    app = App("batches")

    @app.function(on("go"), batch=Batch(10, "1m"))
    async def total(ctx: Context) -> int:
        return len(ctx.events)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        (why,) = await engine.why()
        limit = "batch of function total: up to 10 events, at most 1m 0s after the first"
        assert why.text.startswith(f"It waits for the {limit}; it has 1 event, and starts at ")
        await engine.advance("1m")
        assert engine.run().output == 1


async def test_a_run_that_waits_for_all_events_of_a_debounce_says_so(engine_of: EngineOf) -> None:
    """With the number of events so far, and when it starts unless another one comes."""
    app = App("batches")

    @app.function(on("go"), debounce=Debounce("30s", timeout="50s", keep="all"))
    async def total(ctx: Context) -> int:
        return len(ctx.events)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        (why,) = await engine.why()
        limit = (
            "debounce with all events of function total: 30.0 s after the last event, at most 50.0 s after the first"
        )
        assert why.text.startswith(f"It waits for the {limit}, up to 1,000 events; it has 1 event, and starts at ")
        assert " unless another event comes (since " in why.text
        await engine.advance("30s")
        assert engine.run().output == 1
