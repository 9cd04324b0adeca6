"""1,000 steps in a run, of every kind; the next one fails the run without retry."""

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.limits import Limits
from tests.scenarios.conftest import EngineOf


def stepping_app(steps: int) -> App:
    """Make an app whose function runs so many steps and swallows the error of one too many."""
    app = App("limits")

    @app.function(on("go"))
    async def function(ctx: Context) -> int:
        done = 0
        try:
            for number in range(steps):
                await ctx.step.run(f"step-{number}", lambda: None)
                done += 1
        except Exception:  # noqa: BLE001 - the run must fail nevertheless
            return done
        return done

    return app


@pytest.mark.parametrize(("steps", "status"), [(5, "completed"), (6, "failed")])
async def test_one_step_over_the_limit_fails_the_run(engine_of: EngineOf, steps: int, status: str) -> None:
    """Exactly the limit is allowed; one more fails the run without retry, caught or not."""
    async with engine_of(stepping_app(steps), limits=Limits(steps_per_run_max=5)) as engine:
        await engine.send(Event("go"))
        run = engine.run()
        assert (run.status, len(run.steps)) == (status, 5)
        assert status == "completed" or "step-limit" in str(run.error)


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "status"), [(1_000, "completed"), (1_001, "failed")])
async def test_the_default_limit_is_a_thousand_steps(engine_of: EngineOf, steps: int, status: str) -> None:
    """The 1,001st step fails the run without retry."""
    app = App("limits")
    entries: list[int] = []

    @app.function(on("go"))
    async def function(ctx: Context) -> str:
        entries.append(1)
        for number in range(steps):
            await ctx.step.run(f"step-{number}", int)
        return "done"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        run = engine.run()
        assert (run.status, len(run.steps)) == (status, 1_000)
        await engine.advance("30d")
        assert engine.run().status == status
    assert len(entries) == 1


async def test_every_kind_of_step_counts(engine_of: EngineOf) -> None:
    """One step of each kind reaches a limit of six, and any other is one too many."""
    app = App("limits")

    @app.function()
    async def callee(ctx: Context) -> None:
        pass

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.run("run", int)
        await ctx.step.sleep("sleep", 0)
        await ctx.step.wait_for_event("wait", event="never", timeout="1s")
        await ctx.step.wait_for_signal("signal", signal=f"never-{ctx.run_id}", timeout="1s")
        await ctx.step.send_event("send", Event("other"))
        await ctx.step.invoke("invoke", function=callee)
        if ctx.event.data["more"]:
            await ctx.step.sleep("one-more", 0)

    async with engine_of(app, limits=Limits(steps_per_run_max=6)) as engine:
        await engine.send(Event("go", {"more": False}), Event("go", {"more": True}))
        await engine.advance("1m")
        ended = {run.status: len(run.steps) for run in engine.runs("function")}
        assert ended == {"completed": 6, "failed": 6}
