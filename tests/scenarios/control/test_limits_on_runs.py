"""Functions limit how many of their runs are open at a time, and how many start in a period; the others are queued."""

import asyncio
from typing import Any

import pytest

from stepstream import (
    App,
    Batch,
    Concurrency,
    Context,
    Debounce,
    Event,
    Limit,
    Singleton,
    StepError,
    Throttle,
    on,
)
from stepstream.runtime.readmodel.views import RunView
from tests.scenarios.conftest import EngineOf

MINUTE_MS = 60_000


def data_of(run: RunView) -> Any:
    """Return the data of the event that started a run."""
    events: Any = run.events
    return events[0]["data"]


@pytest.mark.log
async def test_no_more_runs_of_a_key_are_open_than_its_limit(engine_of: EngineOf) -> None:
    """Each tenant has one import at a time, in the order of arrival; other tenants do not wait for it."""
    app, started = App("limits"), list[str]()

    @app.function(on("import"), concurrency=Concurrency(1, counts="runs", key="event.data.tenant"))
    async def load(ctx: Context) -> str:
        started.append(ctx.event.data["file"])
        await ctx.step.sleep("nap", "10m")
        return str(ctx.event.data["file"])

    async with engine_of(app) as engine:
        for file in ("a1", "a2", "b1", "a3"):
            await engine.send(Event("import", {"tenant": file[0], "file": file}))
        statuses = {data_of(run)["file"]: run.status for run in engine.runs()}
        assert statuses == {"a1": "running", "a2": "queued", "b1": "running", "a3": "queued"}
        await engine.advance("10m")
        assert dict.fromkeys(started) == dict.fromkeys(["a1", "b1", "a2"])
        await engine.advance("20m")
        assert sorted(str(run.output) for run in engine.runs()) == ["a1", "a2", "a3", "b1"]
    assert list(dict.fromkeys(started)) == ["a1", "b1", "a2", "a3"]


async def test_starts_in_a_period_are_spread_evenly(engine_of: EngineOf) -> None:
    """Six starts an hour are one every ten minutes; each caller gets the result of its run."""
    app, started = App("limits"), list[int]()

    def now() -> int:
        started.append(engine.now_ms)
        return len(started)

    @app.function(throttle=Throttle(6, "1h"))
    async def call(ctx: Context) -> int:
        return await ctx.step.run("now", now)

    @app.function(on("go"))
    async def caller(ctx: Context) -> list[int]:
        calls = [ctx.step.invoke(f"call {n}", function=call, data={"n": n}) for n in range(3)]
        return sorted(await asyncio.gather(*calls))

    async with engine_of(app) as engine:
        begun = engine.now_ms
        await engine.send(Event("go"))
        for _ in range(40):
            await engine.advance("1m")
        assert engine.runs("caller")[0].output == [1, 2, 3]
    assert [(at - begun) // MINUTE_MS for at in started] == [0, 10, 20]


async def test_a_run_with_a_priority_passes_those_that_asked_shortly_before(engine_of: EngineOf) -> None:
    """It is queued as if it had come ten minutes earlier, so one that asked before that starts first."""
    app, started = App("limits"), list[str]()

    @app.function(on("order"), concurrency=Concurrency(1, counts="runs"), priority="event.data.plan == 'pro' ? 600 : 0")
    async def order(ctx: Context) -> None:
        await ctx.step.run("start", started.append, ctx.event.data["name"])
        await ctx.step.sleep("nap", "1h")

    async with engine_of(app) as engine:
        for name, plan in (("first", ""), ("early", ""), ("late", ""), ("pro", "pro")):
            await engine.send(Event("order", {"name": name, "plan": plan}))
            await engine.advance("6m")
        await engine.advance("4h")
    assert started == ["first", "early", "pro", "late"]


@pytest.mark.parametrize(
    "option",
    [
        {"concurrency": Concurrency(1, counts="runs")},
        {"throttle": Throttle(1, "1h")},
        {"limits": [Limit("api", 1, "1h")]},
        {"singleton": Singleton("wait")},
        {"debounce": Debounce("1h", key="event.data.n")},
        {"debounce": Debounce("1h", keep="all")},
        {"batch": Batch(9, "1h")},
    ],
    ids=["runs", "throttle", "named", "singleton", "debounce", "debounce-all", "batch"],
)
async def test_a_run_that_a_limit_delays_can_be_cancelled(engine_of: EngineOf, option: dict[str, Any]) -> None:
    """Its code never runs, and the runs behind it start as if it had not been there."""
    app, started = App("limits"), list[int]()

    @app.function(on("go"), **option)
    async def work(ctx: Context) -> None:
        await ctx.step.run("start", started.extend, [event.data["n"] for event in ctx.events])
        if "concurrency" in option or "singleton" in option:
            await ctx.step.sleep("nap", "30m")

    async with engine_of(app) as engine:
        for n in range(3):
            await engine.send(Event("go", {"n": n}))
        waiting = [run for run in engine.runs() if run.status == "queued"]
        cancelled = next(run for run in waiting if data_of(run)["n"] == (1 if len(waiting) < 3 else 0))
        assert await engine.cancel(cancelled.run_id)
        await engine.advance("5h")
        assert {run.status for run in engine.runs() if run.run_id == cancelled.run_id} == {"cancelled"}
        assert [run.run_id for run in engine.runs() if run.status == "queued"] == []
    assert data_of(cancelled)["n"] not in started
    assert len(set(started)) == 2


async def test_a_queued_run_that_is_cancelled_answers_its_caller(engine_of: EngineOf) -> None:
    """The run behind it starts in its place, and its code never ran."""
    app, started = App("limits"), list[str]()

    @app.function(concurrency=Concurrency(1, counts="runs"))
    async def work(ctx: Context) -> None:
        started.append(ctx.event.data["name"])
        await ctx.step.sleep("nap", "1h")

    @app.function(on("go"))
    async def caller(ctx: Context) -> str:
        try:
            await ctx.step.invoke("work", function=work, data=ctx.event.data)
        except StepError as error:
            return error.code
        return "done"

    async with engine_of(app) as engine:
        for name in ("first", "second", "third"):
            await engine.send(Event("go", {"name": name}))
        queued = [run for run in engine.runs("work") if run.status == "queued"]
        second = next(run for run in queued if data_of(run)["name"] == "second")
        assert await engine.cancel(second.run_id)
        await engine.advance("2h")
        assert sorted(str(run.output) for run in engine.runs("caller")) == ["done", "done", "run-cancelled"]
    assert list(dict.fromkeys(started)) == ["first", "third"]


def test_limits_of_different_scopes_have_different_names() -> None:
    """Whatever the functions are called: otherwise their runs would share a limit."""
    app = App("limits")
    names: list[str] = []
    for id in ("limits", "app limits", "namespace", "the namespace"):

        @app.function(id=id, concurrency=Concurrency(1, counts="runs"), throttle=Throttle(1, "1s"))
        async def own(ctx: Context) -> None: ...

        names += [rule.name for rule in own.gates]

    @app.function(
        concurrency=[Concurrency(1, counts="runs", scope="app"), Concurrency(1, counts="runs", scope="namespace")]
    )
    async def shared(ctx: Context) -> None: ...

    names += [rule.name for rule in shared.gates]
    assert len(set(names)) == 2 * 4 + 2


async def test_functions_of_an_app_share_a_limit(engine_of: EngineOf) -> None:
    """A limit of the scope `app` counts the runs of all functions that have it."""
    app = App("limits")
    shared = Concurrency(1, counts="runs", scope="app")

    @app.function(on("one"), concurrency=shared)
    async def one(ctx: Context) -> None:
        await ctx.step.sleep("nap", "10m")

    @app.function(on("two"), concurrency=[shared, Concurrency(5, counts="runs")])
    async def two(ctx: Context) -> None:
        await ctx.step.sleep("nap", "10m")

    async with engine_of(app) as engine:
        await engine.send(Event("one"))
        await engine.send(Event("two"))
        assert (engine.run("one").status, engine.run("two").status) == ("running", "queued")
        (why,) = await engine.why("two")
        limit = "concurrency of app limits"
        assert why.text.startswith(
            f"It waits for the limit {limit}: 1 run at a time; 1 of 1 in use, place 1 of 1 in its queue "
        )
        assert why.remedy == f"Held by {engine.run('one').run_id}; see `stepstream limits show '{limit}'`."
        await engine.advance("10m")
        assert (engine.run("one").status, engine.run("two").status) == ("completed", "running")
        await engine.advance("10m")
        assert engine.run("two").status == "completed"


async def test_functions_share_limits_by_name(engine_of: EngineOf) -> None:
    """One limits their starts together, another their open runs; limits on starts are passed first."""
    app = App("limits")
    openai, db = Limit("openai", 6, "1h"), Limit("db", 1)

    @app.function(on("ask"), limits=[db, openai])
    async def answer(ctx: Context) -> None:
        await ctx.step.sleep("nap", "30m")

    @app.function(on("sum"), limits=[openai], concurrency=Concurrency(5, counts="runs"))
    async def total(ctx: Context) -> None:
        await ctx.step.sleep("nap", "30m")

    assert [gate.name for gate in answer.gates] == ["openai", "db"]
    assert [gate.name for gate in total.gates] == ["openai", "concurrency of function total"]
    async with engine_of(app) as engine:
        await engine.send(Event("ask", id="1"))
        await engine.send(Event("sum", id="2"))
        await engine.send(Event("ask", id="3"))
        assert {run.function: run.status for run in engine.runs(total)} == {"total": "queued"}
        await engine.advance("10m")
        assert [run.status for run in engine.runs(total)] == ["running"]
        await engine.advance("10m")
        assert [run.status for run in engine.runs(answer)] == ["running", "queued"]
        await engine.advance("10m")
        assert [run.status for run in engine.runs(answer)] == ["completed", "running"]
