"""After a fan-out the function is re-entered once, when the last of its steps is done."""

import asyncio
from itertools import product
from typing import Any

import pytest

from stepstream import App, Context, Event, on
from stepstream.testing import Crash
from tests.scenarios.conftest import EngineOf, World


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


async def test_a_gather_re_enters_the_function_once(engine_of: EngineOf, world: World) -> None:
    """After a fan-out the function is re-entered once, when the last of its steps is done."""
    expected = 1 if world.live_cache else 2
    assert await entries_after_naps(engine_of, "gather") == expected


async def test_a_parallel_group_re_enters_the_function_once(engine_of: EngineOf, world: World) -> None:
    """The same holds for ctx.group.parallel."""
    assert await entries_after_naps(engine_of, "group") == (1 if world.live_cache else 2)


async def test_a_task_group_re_enters_the_function_once(engine_of: EngineOf, world: World) -> None:
    """The same holds for a TaskGroup."""
    assert await entries_after_naps(engine_of, "tasks") == (1 if world.live_cache else 2)


@pytest.mark.parametrize("step", ["a", "b", "nap"])
@pytest.mark.parametrize(("part", "when"), list(product(("worker", "engine"), ("before", "after"))))
async def test_a_crash_during_a_fan_out_loses_no_step(engine_of: EngineOf, part: Any, when: Any, step: str) -> None:
    """The pending steps are stored with the plan: a crash at any of them neither blocks nor doubles the run."""
    app = App("parallel")

    @app.function(on("go"))
    async def function(ctx: Context) -> tuple[str, str, None]:
        return await asyncio.gather(
            ctx.step.run("a", str, "a"), ctx.step.run("b", str, "b"), ctx.step.sleep("nap", "1h")
        )

    async with engine_of(app, crashes=[Crash(part, when, step)]) as engine:
        await engine.send(Event("go"))
        await engine.advance("1h")
        assert engine.run().output == ["a", "b", None]
        assert sorted(step.id for step in engine.run().steps) == ["a", "b", "nap"]
