"""A fan-out continues after its worker, or the whole engine, was lost."""

import asyncio

import pytest

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf, on_disk


def fanning_app(entries: list[int], bodies: list[str]) -> App:
    """Make an app whose function fans out to three naps, an event, and a step that fails at first."""
    app = App("parallel")

    def flaky() -> str:
        bodies.append("flaky")
        if len(bodies) < 3:
            raise ValueError("flaky")
        return "flaky"

    @app.function(on("go"), backoff="90m")
    async def function(ctx: Context) -> list[object]:
        entries.append(1)
        naps = [ctx.step.sleep(f"nap-{hours}", f"{hours}h") for hours in (1, 2, 4)]
        wait = ctx.step.wait_for_event("wait", event="answer", timeout="1d")
        found = await ctx.group.parallel(*naps, wait, ctx.step.run("flaky", flaky))
        last = await ctx.step.run("last", lambda: "last")
        return [*[each.data if isinstance(each, Event) else each for each in found], last]

    @app.function(on("other"))
    async def other(ctx: Context) -> None:
        await asyncio.gather(*[ctx.step.sleep(f"nap-{number}", "30d") for number in range(3)])

    return app


OUTPUT = [None, None, None, {"n": 1}, "flaky", "last"]


@on_disk
@pytest.mark.parametrize("stops", [["0s"], ["1h"], ["95m"], ["1h", "1h", "90m"]], ids="-".join)
async def test_a_fan_out_continues_after_restarts(engine_of: EngineOf, stops: list[str]) -> None:
    """The engine is stopped during a fan-out, up to three times: steps that are done keep their results."""
    entries: list[int] = []
    bodies: list[str] = []
    now = None
    for number, stop in enumerate(stops):
        async with engine_of(fanning_app(entries, bodies), **({} if now is None else {"now_ms": now})) as engine:
            if number == 0:
                await engine.send(Event("go"))
            await engine.advance(stop)
            assert engine.run().status == "running"
            now = engine.now_ms
    async with engine_of(fanning_app(entries, bodies), now_ms=now) as engine:
        await engine.send(Event("answer", {"n": 1}))
        await engine.advance("4h")
        run = engine.run()
        assert (run.output, run.warnings) == (OUTPUT, ())
        assert {step.id: step.attempts for step in run.steps}["flaky"] == 3
    assert len(bodies) == 3


@pytest.mark.log
async def test_a_fan_out_continues_after_eviction(engine_of: EngineOf) -> None:
    """A worker that caches one run drops the others during a fan-out, and re-enters each when it must."""
    entries: list[int] = []
    bodies: list[str] = []
    async with engine_of(fanning_app(entries, bodies), runs_cached_max=1) as engine:
        await engine.send(Event("go"))
        await engine.send(Event("other"), Event("other"))
        await engine.send(Event("answer", {"n": 1}))
        await engine.advance("119m")
        await engine.send(Event("other"))
        await engine.advance("4h")
        assert engine.run("function").output == OUTPUT
    assert len(bodies) == 3
    assert len(entries) > 1


@on_disk
@pytest.mark.parametrize("how", ["gather", "group", "tasks"])
async def test_a_fan_out_enters_once_after_a_restart(engine_of: EngineOf, how: str) -> None:
    """Stopped during a fan-out, the function is re-entered when the last step is done, and not before."""
    entries: list[int] = []
    app = App("parallel")

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
        await engine.advance("90m")
        now = engine.now_ms
    async with engine_of(app, now_ms=now) as engine:
        await engine.advance("89m")
        assert (engine.run().status, len(entries)) == ("running", 1)
        await engine.advance("1m")
        assert (engine.run().output, len(entries)) == ("done", 2)
