"""SystemExit and KeyboardInterrupt in user code fail their step or run, and never the process."""

import asyncio

import pytest

from stepstream import App, Context, Event, StepError, on
from stepstream.testing import VirtualEngine


@pytest.mark.parametrize("live_cache", [True, False])
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
async def test_an_exit_does_not_end_the_process(error: type[BaseException], live_cache: bool) -> None:
    """Raised in a body it is the step's error, in a task or the code itself the run's; other runs continue."""
    app = App("exits")

    async def leave() -> None:
        raise error("out")

    def leave_in_thread() -> None:
        raise error("out")

    @app.function(on("body"), retries=0)
    async def body(ctx: Context) -> list[str]:
        names = []
        for step in (leave, leave_in_thread):
            try:
                await ctx.step.run(step.__name__, step)
            except StepError as failure:
                names.append(failure.name)
        return names

    @app.function(on("task"), retries=0)
    async def task(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1h")
        await asyncio.gather(leave(), ctx.step.run("beside", abs, -1))

    @app.function(on("code"), retries=0)
    async def code(ctx: Context) -> None:
        await leave()

    async with VirtualEngine(app, live_cache=live_cache) as engine:
        await engine.send(Event("body"), Event("task"), Event("code"))
        await engine.advance("1h")
        assert engine.run(body).output == [error.__name__] * 2
        assert {run.function: run.status for run in engine.runs(status="failed")} == {
            "task": "failed",
            "code": "failed",
        }
        assert f"{error.__name__}(out) was raised in a task" in str(engine.run(task).error)


async def test_a_step_that_is_awaited_twice_fails_the_run_at_once() -> None:
    """The second await of one step is a mistake of the code: it has a remedy, and is not retried."""
    app = App("twice")

    @app.function(on("go"))
    async def function(ctx: Context) -> int:
        step = ctx.step.run("one", abs, -1)
        return await step + await step

    @app.function(on("go"))
    async def by_task(ctx: Context) -> int:
        step = ctx.step.run("one", abs, -1)
        return await asyncio.create_task(step) + await asyncio.create_task(step)

    async with VirtualEngine(app) as engine:
        await engine.send(Event("go"))
        for run in engine.runs():
            assert run.status == "failed"
            assert "step 'one' is awaited twice" in str(run.error)
