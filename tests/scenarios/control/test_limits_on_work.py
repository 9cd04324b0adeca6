"""Functions limit how many of their runs are executing; a run that sleeps, waits or invokes holds no permit."""

import asyncio
from typing import Any

import pytest

from stepstream import App, Concurrency, Context, Event, ThreadedContext, on
from tests.scenarios.conftest import EngineOf
from tests.scenarios.control.bodies import Bodies


@pytest.mark.log
async def test_a_run_may_invoke_into_its_own_limit(engine_of: EngineOf) -> None:
    """With one permit for both functions: parent and child alternate, and other tenants do not wait."""
    app, bodies = App("limits"), Bodies()
    one = Concurrency(1, counts="work", scope="app", key="event.data.tenant")

    @app.function(concurrency=one)
    async def child(ctx: Context) -> str:
        tenant, n = ctx.event.data["tenant"], ctx.event.data["n"]
        await ctx.step.run("before", bodies.run, tenant, f"before {n}")
        await ctx.step.sleep("nap", "1m")
        return await ctx.step.run("after", bodies.run, tenant, f"after {n}")

    @app.function(on("go"), concurrency=one)
    async def parent(ctx: Context) -> list[str]:
        first = await ctx.step.run("first", bodies.run, ctx.event.data["tenant"], f"first {ctx.event.data['n']}")
        found = await ctx.step.invoke("child", function=child, data=ctx.event.data)
        return [first, found, await ctx.step.run("last", bodies.run, ctx.event.data["tenant"], "last")]

    async with engine_of(app) as engine:
        await engine.send(*(Event("go", {"tenant": tenant, "n": n}) for n, tenant in enumerate("aab")))
        await engine.advance("2m")
        outputs: list[Any] = [run.output for run in engine.runs("parent")]
    assert sorted(outputs) == [[f"first {n}", f"after {n}", "last"] for n in range(3)]
    assert bodies.most == {"a": 1, "b": 1}
    assert len(bodies.ran) == 3 * 4


async def test_a_run_that_wakes_waits_for_a_permit(engine_of: EngineOf) -> None:
    """It is queued, says why, and continues when a run that is executing has ended."""
    app, hold = App("limits"), asyncio.Event()
    one = Concurrency(1, counts="work", scope="app")

    @app.function(on("nap"), concurrency=one)
    async def nap(ctx: Context) -> str:
        await ctx.step.sleep("nap", "10m")
        return "slept"

    @app.function(on("hold"), concurrency=one)
    async def holder(_ctx: Context) -> str:
        await hold.wait()
        return "held"

    async with engine_of(app) as engine:
        await engine.send(Event("nap"))
        await engine.send(Event("hold"))
        assert [engine.run(function).status for function in (nap, holder)] == ["running", "running"]
        (why,) = await engine.why(nap)
        assert why.code == "sleep"
        await engine.advance("10m")
        assert engine.run(nap).status == "queued"
        (why,) = await engine.why(nap)
        limit = "It waits for the limit work concurrency of app limits: 1 run executing at a time; 1 of 1 in use"
        assert why.text.startswith(f"{limit}, place 1 of 1 in its queue (since ")
        listed = (await engine.engine.operator.limits("", "", 10)).limits
        text = "work concurrency of app limits: 1 run executing at a time"
        assert [(limit.text, limit.in_use, limit.waiting) for limit in listed] == [(text, 1, 1)]
        assert why.remedy.startswith(f"Held by {engine.run(holder).run_id}; see `stepstream limits show ")
        hold.set()
        await engine.advance("1s")
        assert [engine.run(function).output for function in (nap, holder)] == ["slept", "held"]


async def test_a_run_that_was_paused_waits_for_a_permit(engine_of: EngineOf) -> None:
    """It returns its permit when it is paused, and is queued when the pause ends."""
    app, hold = App("limits"), asyncio.Event()

    @app.function(on("go"), concurrency=Concurrency(1, counts="work"))
    async def work(ctx: Context) -> str:
        await hold.wait()
        return str(ctx.event.data["name"])

    async with engine_of(app) as engine:
        for name in ("first", "second"):
            await engine.send(Event("go", {"name": name}))
        assert [run.status for run in engine.runs()] == ["running", "queued"]
        first = engine.runs()[0].run_id
        await engine.pause(first)
        assert [run.status for run in engine.runs()] == ["running", "running"]
        await engine.resume(first)
        assert [run.status for run in engine.runs()] == ["queued", "running"]
        hold.set()
        await engine.advance("1s")
        assert sorted(str(run.output) for run in engine.runs()) == ["first", "second"]


async def test_a_plain_function_returns_its_permit_while_it_waits(engine_of: EngineOf) -> None:
    """Its thread is free, and it is called again when it wakes; no body runs twice."""
    app, bodies = App("limits"), list[str]()

    @app.function(on("go"), concurrency=Concurrency(1, counts="work"))
    def work(ctx: ThreadedContext) -> str:
        name = ctx.event.data["name"]
        ctx.step.run("first", bodies.append, f"{name} 1")
        ctx.step.sleep("nap", "10m")
        ctx.step.run("second", bodies.append, f"{name} 2")
        return str(name)

    async with engine_of(app) as engine:
        await engine.send(*(Event("go", {"name": name}) for name in "abc"))
        await engine.advance("1m")
        assert sorted(bodies) == ["a 1", "b 1", "c 1"]
        await engine.advance("20m")
        assert sorted(str(run.output) for run in engine.runs()) == ["a", "b", "c"]
    assert sorted(bodies) == ["a 1", "a 2", "b 1", "b 2", "c 1", "c 2"]


async def test_parallel_steps_hold_one_permit_until_the_last_body_ends(engine_of: EngineOf) -> None:
    """A body runs while the code waits for an event: the run is executing until the body has ended."""
    app, bodies = App("limits"), Bodies()

    @app.function(on("go"), concurrency=Concurrency(1, counts="work"))
    async def work(ctx: Context) -> list[Any]:
        name = ctx.event.data["name"]
        parts = [ctx.step.run(f"part {n}", bodies.run, name, f"{name} {n}") for n in range(2)]
        answer = ctx.step.wait_for_event("answer", event="answer", match="data.name", timeout="1h")
        done, event = await asyncio.gather(asyncio.gather(*parts), answer)
        (sent,) = await ctx.step.send_event("noted", Event("noted", id=f"noted {name}"))
        return [*done, event.data["text"] if event else "", sent]

    async with engine_of(app) as engine:
        await engine.send(Event("go", {"name": "a"}), Event("go", {"name": "b"}))
        await engine.advance("1m")
        assert sorted(bodies.ran) == ["a 0", "a 1", "b 0", "b 1"]
        await engine.send(*(Event("answer", {"name": name, "text": f"to {name}"}) for name in "ab"))
        await engine.advance("1m")
        outputs: list[Any] = [run.output for run in engine.runs()]
    assert sorted(outputs) == [[f"{name} 0", f"{name} 1", f"to {name}", f"noted {name}"] for name in "ab"]


async def test_a_run_that_waits_for_its_permit_again_can_be_cancelled(engine_of: EngineOf) -> None:
    """Neither it nor a run that fails between steps keeps a permit."""
    app, hold, failed = App("limits"), asyncio.Event(), list[str]()
    one = Concurrency(1, counts="work", scope="app")

    @app.function(on("nap"), concurrency=one)
    async def nap(ctx: Context) -> None:
        await ctx.step.sleep("nap", "10m")

    @app.function(on("hold"), concurrency=one, backoff="5m")
    async def holder(ctx: Context) -> str:
        if not failed:
            failed.append(ctx.run_id)
            raise ValueError("once")
        await hold.wait()
        return "held"

    async with engine_of(app) as engine:
        await engine.send(Event("hold"))
        await engine.send(Event("nap"))
        await engine.advance("6m")
        assert [engine.run(function).status for function in (nap, holder)] == ["running", "running"]
        await engine.advance("6m")
        assert await engine.cancel(engine.run(nap).run_id)
        hold.set()
        await engine.advance("1s")
        assert [engine.run(function).status for function in (nap, holder)] == ["cancelled", "completed"]
