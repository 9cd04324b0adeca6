"""A body that simulates work takes time of the engine, and the run shows how long."""

import asyncio

from stepstream import App, Context, Event, on
from stepstream.testing import simulate_work
from tests.scenarios.conftest import EngineOf


async def test_a_step_takes_the_time_of_its_work(engine_of: EngineOf) -> None:
    """The run waits for the body until its time has passed; other runs continue meanwhile."""
    app = App("work")

    @app.function(on("slow"))
    async def slow(ctx: Context) -> str:
        await ctx.step.run("work", simulate_work, "90s")
        return "done"

    @app.function(on("fast"))
    async def fast(ctx: Context) -> str:
        return await ctx.step.run("step", lambda: "fast")

    async with engine_of(app) as engine:
        await engine.send(Event("slow"))
        await engine.advance("89s")
        assert engine.run("slow").status == "running"
        await engine.send(Event("fast"))
        assert engine.run("fast").output == "fast"
        await engine.advance("1s")
        run = engine.run("slow")
        assert (run.output, run.ended_at) == ("done", run.accepted_at + 90_000)
        assert [(step.ended_at or 0) - step.started_at for step in run.steps] == [90_000]


async def test_parallel_bodies_work_at_the_same_time(engine_of: EngineOf) -> None:
    """Each step ends at its own time, and the code continues in the meantime."""
    app = App("work")
    after: list[str] = []

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        async def branch(name: str, length: str) -> None:
            await ctx.step.run(name, simulate_work, length)
            after.append(await ctx.step.run(f"after {name}", lambda: name))

        await asyncio.gather(branch("long", "60s"), branch("short", "10s"))

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("30s")
        assert set(after) == {"short"}
        await engine.advance("30s")
        run = engine.run()
        assert (run.status, run.ended_at) == ("completed", run.accepted_at + 60_000)


async def test_a_body_reads_the_number_of_its_attempt(engine_of: EngineOf) -> None:
    """In a body, `ctx.attempt` counts the failures of the body; between steps it counts those of the code."""
    app = App("work")
    between: list[int] = []

    @app.function(on("go"), retries=3, backoff="1m")
    async def function(ctx: Context) -> int:
        async def flaky() -> int:
            await simulate_work("5s")
            if ctx.attempt < 2:
                raise ConnectionError(f"attempt {ctx.attempt} failed")
            return ctx.attempt

        between.append(ctx.attempt)
        plain = await ctx.step.run("plain", lambda: ctx.attempt)
        return plain + await ctx.step.run("flaky", flaky)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("3m")
        run = engine.run()
        assert run.output == 2
        flaky = run.steps[1]
        assert (flaky.attempts, flaky.ended_at) == (3, run.accepted_at + 2 * 60_000 + 3 * 5_000)
        assert [failure.message for failure in flaky.failures] == ["attempt 0 failed", "attempt 1 failed"]
    assert set(between) == {0}


async def test_a_cancelled_run_stops_its_work(engine_of: EngineOf) -> None:
    """Nothing waits for the time of a body whose run was cancelled."""
    app = App("work")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.run("work", simulate_work, "1h")

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.cancel(engine.run().run_id)
        assert engine.run().status == "cancelled"
        await engine.send(Event("go"))
        await engine.advance("1h")
        assert [run.status for run in engine.runs()] == ["cancelled", "completed"]
