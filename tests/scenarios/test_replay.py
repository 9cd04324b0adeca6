"""Functions re-run from the first line, and each step with a result gives it instead of running again."""

import asyncio
from typing import Any

from stepstream import App, Context, Event, NonRetriableError, StepError, ThreadedContext, on
from tests.scenarios.conftest import EngineOf, World


async def test_a_step_runs_once_however_often_the_code_does(engine_of: EngineOf, world: World) -> None:
    """A step with a memo returns it; code outside steps may run any number of times."""
    app = App("replay")
    entries: list[str] = []
    bodies: list[str] = []

    def body(name: str) -> str:
        bodies.append(name)
        return name

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        entries.append("in")
        first = await ctx.step.run("first", body, "a")
        await ctx.step.sleep("nap", "1h")
        return [first, await ctx.step.run("second", body, "b")]

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        assert engine.run().output == ["a", "b"]
    assert bodies == ["a", "b"]
    assert len(entries) == (1 if world.live_cache else 2)


def same(number: int) -> int:
    """Return what is given."""
    return number


async def test_an_id_may_be_used_again(engine_of: EngineOf) -> None:
    """The 2nd use of an id in a run is another step, in the order of discovery."""
    app = App("replay")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[int]:
        found = []
        for number in range(3):
            found.append(await ctx.step.run("same", same, number))
            await ctx.step.sleep("same", "1m")
        return found

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        run = engine.run()
        assert run.output == [0, 1, 2]
        assert len({step.step for step in run.steps}) == 6


async def test_an_id_that_collides_with_a_second_use_is_refused(engine_of: EngineOf) -> None:
    """A literal `a:1` beside two `a` collides: the run fails with an error that names both."""
    app = App("replay")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        for step_id in ("a", "a:1", "a"):
            await ctx.step.run(step_id, lambda: None)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        run = engine.run()
        assert run.status == "failed"
        assert "'a:1'" in str(run.error)


async def test_races_replay_the_way_they_went(engine_of: EngineOf) -> None:
    """Memos are resolved in the order in which steps completed, so the same branch wins again."""
    app = App("replay")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        async def branch(name: str, nap: str) -> str:
            await ctx.step.sleep(name, nap)
            return name

        tasks = [asyncio.ensure_future(branch("slow", "2h")), asyncio.ensure_future(branch("fast", "1h"))]
        done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        winner = next(iter(done)).result()
        both = sorted(await asyncio.gather(*done, *pending))
        await ctx.step.sleep("after", "1h")
        return [winner, *both]

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("5h")
        assert engine.run().output == ["fast", "fast", "slow"]


async def test_a_step_inside_a_step_is_an_error_that_says_so(engine_of: EngineOf) -> None:
    """A step inside a step's body fails the outer one at once, async or not."""
    app = App("replay")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        async def nested() -> None:
            await ctx.step.run("inner", lambda: None)

        messages = []
        for body in (nested, lambda: ctx.step.run("inner", lambda: None)):
            try:
                await ctx.step.run("outer", body)
            except StepError as error:
                messages.append(error.message)
        return messages

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        output = engine.run().output
        assert isinstance(output, list)
        assert len(output) == 2
        assert all("cannot contain another" in str(message) for message in output)


async def test_a_plain_function_is_not_hurt_by_except_exception(engine_of: EngineOf) -> None:
    """What suspends a plain function is no Exception, so `except Exception` in user code does not eat it."""
    app = App("replay")

    @app.function(on("go"))
    def function(ctx: ThreadedContext) -> str:
        try:
            ctx.step.sleep("nap", "1h")
        except Exception:  # noqa: BLE001 - the point of the scenario
            return "eaten"
        return ctx.step.run("after", lambda: "slept")

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        assert engine.run().output == "slept"


async def test_a_bare_await_between_steps_works(engine_of: EngineOf) -> None:
    """An await on something that is no step suspends nothing and loses nothing."""
    app = App("replay")

    @app.function(on("go"))
    async def function(ctx: Context) -> Any:
        async def with_bare_await() -> int:
            for _ in range(20):
                await asyncio.sleep(0)
            await asyncio.to_thread(int)
            return await ctx.step.run("late", lambda: 7)

        return await asyncio.gather(with_bare_await(), ctx.step.sleep("nap", "1h"))

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        assert engine.run().output == [7, None]


async def test_a_forgotten_await_is_an_error_that_says_so(engine_of: EngineOf) -> None:
    """A step that is called and not awaited fails the run with the remedy."""
    app = App("replay")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        _ = ctx.step.run("lost", lambda: 1)
        return "done"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        run = engine.run()
        assert run.status == "failed"
        assert "write `await`" in str(run.error)


async def test_changed_code_is_a_recorded_warning(engine_of: EngineOf, world: World) -> None:
    """A memo that nobody asks for any more, and a new step before old ones, are warnings on the run."""
    changed: list[bool] = []
    app = App("replay")

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        await ctx.step.run("new" if changed else "old", lambda: 1)
        await ctx.step.sleep("nap", "1h")
        return "done"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        changed.append(True)
        await engine.advance("1h")
        run = engine.run()
        assert run.status == "completed"
        if not world.live_cache:
            assert any("'new' is new before" in warning for warning in run.warnings)
            assert any("'old' has a result" in warning for warning in run.warnings)


async def test_errors_of_the_code_reach_the_run(engine_of: EngineOf) -> None:
    """An error in the function's own code ends the run with its name and message."""
    app = App("replay")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        raise NonRetriableError("no such customer")

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        run = engine.run()
        assert run.status == "failed"
        assert isinstance(run.error, dict)
        assert run.error["name"] == "NonRetriableError"
        assert run.error["message"] == "no such customer"
