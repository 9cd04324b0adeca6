"""An error among parallel steps reaches the function as asyncio delivers it."""

import asyncio

from stepstream import App, Context, Event, NonRetriableError, StepError, on
from tests.scenarios.conftest import EngineOf


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


async def test_a_task_group_raises_its_errors_as_a_group(engine_of: EngineOf) -> None:
    """A TaskGroup cancels the other tasks and raises an ExceptionGroup, as in asyncio."""
    app = App("parallel")

    def broken(name: str) -> None:
        raise NonRetriableError(name)

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(ctx.step.run("first", broken, "first"))
                tasks.create_task(ctx.step.wait_for_event("wait", event="never", timeout="7d"))
        except* StepError as errors:
            found = [str(error) for error in errors.exceptions]
        await ctx.step.sleep("after", "1s")
        return found

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1s")
        run = engine.run()
        assert run.output == ["step 'first': NonRetriableError: first"]
        assert {step.id: step.status for step in run.steps} == {
            "first": "failed",
            "wait": "cancelled",
            "after": "completed",
        }


async def test_gather_may_return_errors(engine_of: EngineOf) -> None:
    """gather(return_exceptions=True) returns results and errors in order."""
    app = App("parallel")

    def broken() -> None:
        raise NonRetriableError("no")

    @app.function(on("go"))
    async def function(ctx: Context) -> list[str]:
        found = await asyncio.gather(
            ctx.step.run("good", str, "fine"), ctx.step.run("bad", broken), return_exceptions=True
        )
        return [type(each).__name__ for each in found]

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == ["str", "StepError"]
