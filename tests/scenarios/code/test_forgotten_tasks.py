"""What asyncio logs of tasks that were never awaited: it hides no bug, and repeats no error that the run has."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf

Code = Callable[[Context], Coroutine[Any, Any, str | None]]


async def fail(number: int) -> None:
    """Raise once the task starts."""
    raise ValueError(f"task {number}")


async def fail_late(ctx: Context, number: int) -> None:
    """Raise after a step, or when the task is cancelled."""
    try:
        await ctx.step.run(f"step {number}", abs, number)
    finally:
        await fail(number)


async def gathered(ctx: Context) -> None:
    """Fail with the first of three tasks."""
    await asyncio.gather(*[fail_late(ctx, number) for number in range(3)])


async def awaited_one_by_one(ctx: Context) -> None:
    """Fail before all tasks are awaited."""
    tasks = [asyncio.create_task(fail(number)) for number in range(3)]
    await ctx.step.sleep("nap", "1s")
    for task in tasks:
        await task


async def failed_itself(ctx: Context) -> None:
    """Fail while three tasks run."""
    tasks = [asyncio.create_task(fail_late(ctx, number)) for number in range(3)]
    await ctx.step.sleep("nap", "1s")
    raise ValueError(f"with {len(tasks)} tasks")


async def forgotten(ctx: Context) -> str:
    """Return although a task failed that nothing awaits."""
    tasks = [asyncio.create_task(fail(7))]
    await ctx.step.sleep("nap", "1s")
    return f"with {len(tasks)} task"


async def run(engine_of: EngineOf, code: Code, caplog: pytest.LogCaptureFixture) -> tuple[str, list[str]]:
    """Return the status of a run of some code, and the exceptions that asyncio logged."""
    app = App("tasks")
    app.function(on("go"), id="code", retries=0)(code)
    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        status = engine.run().status
    gc.collect()
    return status, [record.getMessage() for record in caplog.records if record.name == "asyncio"]


@pytest.mark.parametrize("code", [gathered, awaited_one_by_one, failed_itself])
async def test_a_failed_run_logs_no_exception_twice(
    engine_of: EngineOf, code: Code, caplog: pytest.LogCaptureFixture
) -> None:
    """The run has its error; what its other tasks raised before or after that follows from it."""
    assert await run(engine_of, code, caplog) == ("failed", [])


async def test_a_task_that_a_completed_run_forgot_is_logged(
    engine_of: EngineOf, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing else would show that it failed. It is logged once, also if the code was stopped and replayed."""
    status, (logged,) = await run(engine_of, forgotten, caplog)
    assert status == "completed"
    assert "exception was never retrieved" in logged
    assert "ValueError('task 7')" in logged
