"""Steps side by side: gather, TaskGroup, groups and races."""

import asyncio

from stepstream import App, Context, Event, StepError, on
from tests.scenarios.conftest import EngineOf, World


async def test_each_parallel_step_has_its_own_attempts(engine_of: EngineOf) -> None:
    """One of three fails twice; the others run once."""
    app = App("parallel")
    bodies: list[str] = []

    def body(name: str) -> str:
        bodies.append(name)
        if name == "b" and bodies.count("b") < 3:
            raise ValueError("flaky")
        return name

    @app.function(on("go"), backoff="1s")
    async def function(ctx: Context) -> list[str]:
        return list(await asyncio.gather(*[ctx.step.run(name, body, name) for name in "abc"]))

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("10s")
        assert engine.run().output == ["a", "b", "c"]
    assert sorted(bodies) == ["a", "b", "b", "b", "c"]


async def entries_after_naps(engine_of: EngineOf, how: str) -> int:
    """Return how often the code ran for a fan-out of three naps that end at different times."""
    app = App("parallel")
    entries: list[int] = []

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        entries.append(1)
        naps = [ctx.step.sleep(f"nap-{hours}", f"{hours}h") for hours in (1, 2, 3)]
        if how == "gather":
            await asyncio.gather(*naps)
        elif how == "group":
            await ctx.group.parallel(*naps)
        else:
            async with asyncio.TaskGroup() as tasks:
                for nap in naps:
                    tasks.create_task(nap)
        return "done"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("2h59m")
        assert engine.run().status == "running"
        await engine.advance("1m")
        assert engine.run().output == "done"
    return len(entries)


async def test_after_a_fan_out_the_function_is_entered_once(engine_of: EngineOf, world: World) -> None:
    """After a fan-out the function is re-entered once, when the last of the set is done."""
    expected = 1 if world.live_cache else 2
    assert await entries_after_naps(engine_of, "gather") == expected


async def test_a_group_is_entered_once(engine_of: EngineOf, world: World) -> None:
    """So it is with ctx.group.parallel."""
    assert await entries_after_naps(engine_of, "group") == (1 if world.live_cache else 2)


async def test_a_task_group_is_entered_once(engine_of: EngineOf, world: World) -> None:
    """So it is with a TaskGroup."""
    assert await entries_after_naps(engine_of, "tasks") == (1 if world.live_cache else 2)


async def test_branches_go_on_by_themselves(engine_of: EngineOf) -> None:
    """A branch of several steps does not wait for the slowest of the others."""
    app = App("parallel")
    done: list[str] = []

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        async def branch(name: str, nap: str) -> None:
            await ctx.step.sleep(f"{name}-nap", nap)
            await ctx.step.run(f"{name}-work", done.append, name)

        await asyncio.gather(branch("quick", "1m"), branch("slow", "7d"))
        return "done"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        assert done == ["quick"]
        await engine.advance("7d")
        assert engine.run().output == "done"
    assert done == ["quick", "slow"]


async def test_a_race_settles_with_the_first_and_cancels_the_others(engine_of: EngineOf) -> None:
    """race settles with the first; the losers are cancelled and leave nothing behind."""
    app = App("parallel")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        winner = await ctx.group.race(
            ctx.step.wait_for_event("event", event="answer", timeout="7d"),
            ctx.step.wait_for_signal("signal", signal="answer", timeout="7d"),
        )
        await ctx.step.sleep("nap", "1h")
        return str(winner)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert await engine.signal("answer", "hello")
        await engine.send(Event("answer"))
        await engine.advance("1h")
        run = engine.run()
        assert run.output == "hello"
        assert {step.id: step.status for step in run.steps} == {
            "event": "cancelled",
            "signal": "completed",
            "nap": "completed",
        }


async def test_an_error_in_a_gather_is_raised_at_once(engine_of: EngineOf) -> None:
    """The error of one step reaches the function before the others are done."""
    app = App("parallel")

    def broken() -> None:
        raise ValueError("no")

    @app.function(on("go"), retries=0)
    async def function(ctx: Context) -> str:
        try:
            await asyncio.gather(ctx.step.run("broken", broken), ctx.step.sleep("nap", "7d"))
        except StepError as error:
            return error.step_id
        return "never"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == "broken"


async def test_a_run_of_many_parallel_steps(engine_of: EngineOf) -> None:
    """Chunks of work fan out and are collected in order."""
    app = App("parallel")

    @app.function(on("go"))
    async def function(ctx: Context) -> int:
        total = 0
        for chunk in range(4):
            parts = [ctx.step.run(f"part-{chunk}-{part}", abs, part) for part in range(10)]
            total += sum(await ctx.group.parallel(*parts))
            await ctx.step.sleep("breathe", "1s")
        return total

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1m")
        assert engine.run().output == 180
        assert len(engine.run().steps) == 44
