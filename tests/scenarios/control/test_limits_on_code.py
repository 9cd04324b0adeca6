"""A limit on bodies counts the code between them too: together, no more execute at a time than the limit says."""

import asyncio
from typing import Any

import pytest

from stepstream import App, Concurrency, Context, Event, Limit, ThreadedContext, on
from tests.scenarios.conftest import EngineOf
from tests.scenarios.control.bodies import Bodies


@pytest.mark.log
async def test_code_without_steps_is_limited(engine_of: EngineOf) -> None:
    """Runs of one key execute one after the other, in the order in which they were admitted."""
    app, code = App("limits"), Bodies()

    @app.function(on("go"), concurrency=Concurrency(1, key="event.data.tenant"))
    async def work(ctx: Context) -> str:
        return await code.run(ctx.event.data["tenant"], ctx.event.data["name"])

    async with engine_of(app) as engine:
        for name in "abc":
            await engine.send(Event("go", {"tenant": "t", "name": name}), Event("go", {"tenant": name, "name": "-"}))
        assert [run.status for run in engine.runs()] == ["completed"] * 6
    assert code.most["t"] == 1
    assert [name for name in code.ran if name != "-"] == ["a", "b", "c"]


@pytest.mark.log
@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_code_and_parallel_bodies_never_exceed_the_limit(engine_of: EngineOf, limit: int) -> None:
    """Of several runs, with attempts that fail, sleeps, and a child that has the same limit."""
    app, pieces, failed = App("limits"), Bodies(), set[str]()
    shared = Concurrency(limit, scope="app")

    async def flaky(name: str) -> str:
        await pieces.run("k", name)
        if name not in failed:
            failed.add(name)
            raise OSError("once")
        return name

    @app.function(concurrency=shared)
    async def child(ctx: Context) -> str:
        return await ctx.step.run("work", pieces.run, "k", f"child {ctx.event.data['n']}")

    @app.function(on("go"), concurrency=shared, backoff="1m")
    async def work(ctx: Context) -> list[Any]:
        n = ctx.event.data["n"]
        await pieces.run("k", "code")
        parts = [ctx.step.run(f"part {part}", flaky, f"{n}-{part}") for part in range(3)]
        found: list[Any] = list(await asyncio.gather(*parts))
        await pieces.run("k", "code")
        await ctx.step.sleep("nap", "5m")
        found.append(await ctx.step.invoke("child", function=child, data=ctx.event.data))
        return [*found, await ctx.step.run("last", pieces.run, "k", "last")]

    async with engine_of(app) as engine:
        await engine.send(*(Event("go", {"n": n}) for n in range(3)))
        await engine.advance("1h")
        outputs: list[Any] = [run.output for run in engine.runs(work)]
    assert sorted(outputs) == [[*(f"{n}-{part}" for part in range(3)), f"child {n}", "last"] for n in range(3)]
    assert pieces.most["k"] <= limit


async def test_a_body_with_named_limits_runs_by_the_permit_of_its_run(engine_of: EngineOf) -> None:
    """So a limit of one permit suffices; parallel bodies wait for both limits."""
    app, pieces = App("limits"), Bodies()
    db = Limit("db", 1)

    @app.function(on("go"), concurrency=Concurrency(1))
    async def work(ctx: Context) -> list[str]:
        limited = ctx.step.options(limit=db)
        first = await limited.run("first", pieces.run, "k", "first")
        rest = [limited.run(f"part {n}", pieces.run, "k", f"part {n}") for n in range(2)]
        free = ctx.step.run("free", pieces.run, "k", "free")
        return [first, *(await asyncio.gather(*rest, free))]

    async with engine_of(app) as engine:
        await engine.send(*(Event("go") for _ in range(3)))
        assert [run.output for run in engine.runs()] == [["first", "part 0", "part 1", "free"]] * 3
    assert pieces.most["k"] == 1


async def test_a_body_in_a_queue_gets_the_permit_of_its_run(engine_of: EngineOf) -> None:
    """The run is parked meanwhile; the code of another run does not execute beside the body."""
    app, pieces = App("limits", queues=["gpu"]), Bodies()

    @app.function(on("go"), concurrency=Concurrency(1))
    async def work(ctx: Context) -> str:
        await pieces.run("k", "code")
        await asyncio.gather(
            ctx.step.run("here", pieces.run, "k", "here"),
            ctx.step.options(queue="gpu").run("there", pieces.run, "k", "there"),
        )
        return await pieces.run("k", "code")

    async with engine_of(app) as engine:
        await engine.send(Event("go"), Event("go"))
        assert [run.status for run in engine.runs()] == ["completed"] * 2
    assert pieces.most["k"] == 1
    assert pieces.ran.count("there") == 2


async def test_a_plain_function_holds_one_permit(engine_of: EngineOf) -> None:
    """Its thread executes by it, and so do its bodies; while it sleeps, another run executes."""
    app, ran = App("limits"), list[str]()

    @app.function(on("go"), concurrency=Concurrency(1))
    def work(ctx: ThreadedContext) -> str:
        name = ctx.event.data["name"]
        ran.append(f"{name} code") if not ran or ran[-1] != f"{name} code" else None
        ctx.step.run("first", ran.append, f"{name} body")
        ctx.step.sleep("nap", "1m")
        return str(name)

    async with engine_of(app) as engine:
        await engine.send(Event("go", {"name": "a"}))
        await engine.send(Event("go", {"name": "b"}))
        assert ran == ["a code", "a body", "b code", "b body"]
        await engine.advance("2m")
        assert sorted(str(run.output) for run in engine.runs()) == ["a", "b"]


async def test_a_queued_run_says_which_limit_its_code_waits_for(engine_of: EngineOf) -> None:
    """The limit counts bodies, and the run holds it that executes."""
    app, hold = App("limits"), asyncio.Event()

    one = Concurrency(1, scope="app")

    @app.function(on("first"), concurrency=one)
    async def first(_ctx: Context) -> None:
        await hold.wait()

    @app.function(on("second"), concurrency=one)
    async def second(_ctx: Context) -> None:
        pass

    async with engine_of(app) as engine:
        await engine.send(Event("first"))
        await engine.send(Event("second"))
        assert [engine.run(function).status for function in (first, second)] == ["running", "queued"]
        (why,) = await engine.why(second)
        assert why.text.startswith("It waits for the limit step concurrency of app limits: 1 step at a time; 1 of 1")
        hold.set()
        await engine.until_idle()
        assert [run.status for run in engine.runs()] == ["completed", "completed"]
