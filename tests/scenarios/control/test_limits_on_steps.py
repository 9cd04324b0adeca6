"""Functions limit how many bodies of their steps run at a time; the others wait in order, and hold nothing else up."""

import asyncio
from typing import Any

from stepstream import App, Concurrency, Context, DefinitionError, Event, Limit, ThreadedContext, on
from tests.scenarios.conftest import EngineOf
from tests.scenarios.control.bodies import Bodies


async def test_no_more_bodies_of_a_key_run_than_its_limit(engine_of: EngineOf) -> None:
    """Parallel steps of a run need a permit each; other keys do not wait, and each step has its result."""
    app, bodies = App("limits"), Bodies()

    @app.function(on("scan"), concurrency=Concurrency(2, key="event.data.tenant"))
    async def scan(ctx: Context) -> list[str]:
        tenant = ctx.event.data["tenant"]
        steps = [ctx.step.run(f"part {n}", bodies.run, tenant, f"{ctx.event.data['n']}-{n}") for n in range(4)]
        return list(await asyncio.gather(*steps))

    async with engine_of(app) as engine:
        await engine.send(*(Event("scan", {"tenant": tenant, "n": n}) for n in range(2) for tenant in "ab"))
        await engine.advance("1m")
        outputs: list[Any] = [run.output for run in engine.runs()]
    assert sorted(outputs) == [[f"{n}-{part}" for part in range(4)] for n in (0, 0, 1, 1)]
    assert bodies.most == {"a": 2, "b": 2}


async def test_a_sleeping_run_holds_no_permit(engine_of: EngineOf) -> None:
    """Nor does one between two attempts: the body of another run runs meanwhile."""
    app, ran = App("limits"), list[str]()

    def body(name: str) -> str:
        ran.append(name)
        if ran.count("first") == 1 and name == "first":
            raise OSError("no")
        return name

    @app.function(on("go"), concurrency=Concurrency(1), backoff="10m")
    async def work(ctx: Context) -> str:
        done = await ctx.step.run("body", body, ctx.event.data["name"])
        await ctx.step.sleep("nap", "1h")
        return done

    async with engine_of(app) as engine:
        await engine.send(Event("go", {"name": "first"}), Event("go", {"name": "second"}))
        await engine.advance("1m")
        assert sorted(ran) == ["first", "second"]
        await engine.advance("2h")
        assert sorted(str(run.output) for run in engine.runs()) == ["first", "second"]
    assert sorted(ran) == ["first", "first", "second"]


async def test_a_plain_function_waits_for_its_permits(engine_of: EngineOf) -> None:
    """Its steps block the thread until they have a permit and their result."""
    app, ran = App("limits"), list[str]()

    @app.function(on("go"), concurrency=[Concurrency(1), Concurrency(5, counts="runs")])
    def work(ctx: ThreadedContext) -> str:
        name = ctx.event.data["name"]
        ctx.step.run("first", ran.append, f"{name} 1")
        ctx.step.run("second", ran.append, f"{name} 2")
        return str(name)

    async with engine_of(app) as engine:
        await engine.send(*(Event("go", {"name": name}) for name in "abc"))
        await engine.advance("1m")
        assert sorted(str(run.output) for run in engine.runs()) == ["a", "b", "c"]
    assert sorted(ran) == ["a 1", "a 2", "b 1", "b 2", "c 1", "c 2"]


async def test_a_step_in_a_queue_waits_for_its_permit(engine_of: EngineOf) -> None:
    """The limit counts bodies wherever they run; the losers of a race return their permits."""
    app, bodies = App("limits", queues=["gpu"]), Bodies()

    @app.function(on("go"), concurrency=Concurrency(1))
    async def work(ctx: Context) -> Any:
        gpu = ctx.step.options(queue="gpu")
        first = await ctx.group.race(gpu.run("a", bodies.run, "k", "a"), ctx.step.run("b", bodies.run, "k", "b"))
        return [first, await ctx.step.run("c", bodies.run, "k", "c")]

    async with engine_of(app) as engine:
        await engine.send(Event("go"), Event("go"))
        await engine.advance("1m")
        assert [run.status for run in engine.runs()] == ["completed", "completed"]
        outputs: list[Any] = [run.output for run in engine.runs()]
    assert {output[1] for output in outputs} == {"c"}


async def test_a_limit_of_single_steps(engine_of: EngineOf) -> None:
    """Bodies of several functions share it by its name, with starts of runs; other bodies do not wait for it."""
    app, bodies = App("limits"), Bodies()
    api, db = Limit("api", 6, "1h"), Limit("db", 1, key="event.data.tenant")

    @app.function(on("ask"))
    async def ask(ctx: Context) -> Any:
        other = ctx.step.run("other", bodies.run, "other", "other")
        limited = ctx.step.options(limit=[db, api]).run("ask", bodies.run, ctx.event.data["tenant"], "ask")
        return await asyncio.gather(other, limited)

    @app.function(on("look"), limits=[api])
    def look(ctx: ThreadedContext) -> Any:
        return ctx.step.options(limit=db).run("look", bodies.run, ctx.event.data["tenant"], "look")

    async with engine_of(app) as engine:
        await engine.send(*(Event("look", {"tenant": tenant}) for tenant in "aab"))
        await engine.advance("25m")
        await engine.send(Event("ask", {"tenant": "a"}))
        await engine.advance("1m")
        assert bodies.ran == ["look", "look", "look", "other"]
        (why,) = await engine.why(ask)
        assert why.text.startswith("Step 'ask' waits for the limit api: 6 starts in 1h 0m; place 1 of 1 in its queue")
        await engine.advance("10m")
        assert engine.run(ask).output == ["other", "ask"]
    assert (bodies.most["a"], bodies.most["b"]) == (1, 1)


async def test_a_limit_that_a_step_cannot_have_fails_its_run(engine_of: EngineOf) -> None:
    """With the reason: open runs hold it, it has other numbers elsewhere, or it is no limit."""
    app, errors = App("limits"), list[str]()
    db = Limit("db", 1)
    wrong: dict[str, Any] = {"held": db, "other": Limit("db", 2), "text": "db", "twice": [Limit("a", 1), Limit("a", 1)]}
    tokens = Limit("tokens", 1, "1s", counts="units")
    units: list[Any] = [(tokens, ""), (Limit("calls", 1, "1s"), 5), (tokens, -1), (tokens, "event.")]

    @app.function(on("go"), limits=[db])
    async def work(ctx: Context) -> None:
        for limit in wrong.values():
            try:
                ctx.step.options(limit=limit)
            except DefinitionError as error:
                errors.append(str(error))
        for limit, number in units:
            try:
                ctx.step.options(limit=limit, units=number)
            except DefinitionError as error:
                errors.append(str(error))
        await ctx.step.options(limit=Limit("a", 1)).options(limit=[]).run("free", list)
        ctx.step.options(limit=db)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().status == "failed"
        error: Any = engine.run().error
    held = "the limit 'db' counts the open runs of function 'work', so a step could wait for a permit that its own run"
    assert held in error["message"]
    words = [
        held,
        "define it once, and use it in both places",
        "write a list, such as",
        "two limits have the same name",
        "'tokens' counts units: say how many",
        "no limit of the step counts units",
        "-1 is not",
        "units=): 1:",
    ]
    assert [word for word, error in zip(words, errors, strict=False) if word not in error] == []


async def test_a_limit_of_units_counts_what_bodies_use(engine_of: EngineOf) -> None:
    """A body settles what it used in place of the estimate, in a thread or in the event loop, in a queue or not."""
    app, at = App("limits", queues=["gpu"]), list[int]()
    tokens = Limit("tokens", 60, "1h", counts="units")

    @app.function(on("go"))
    def work(ctx: ThreadedContext) -> None:
        def body(used: int) -> None:
            at.append(engine.now_ms - start)
            ctx.settle(used)

        limited = ctx.step.options(limit=tokens, units="event.data.estimate")
        limited.run("first", body, 30)
        limited.options(queue="gpu").run("second", body, 1)
        limited.run("third", body, 1)

    async with engine_of(app) as engine:
        start = engine.now_ms
        await engine.send(Event("go", {"estimate": 10}))
        await engine.advance("1m")
        (why,) = await engine.why()
        assert why.text.startswith("Step 'second' waits for the limit tokens: 60 units in 1h 0m; place 1 of 1")
        await engine.advance("2h")
        assert engine.run().status == "completed"
    assert [after // 60_000 for after in at] == [0, 30, 31]
