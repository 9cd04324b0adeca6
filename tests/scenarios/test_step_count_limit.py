"""1,000 steps a run, every kind counts; the one after fails the run without retry."""

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
        except Exception:  # noqa: BLE001 - the run must fail all the same
            return done
        return done

    return app


async def test_the_last_allowed_step_is_fine_and_the_next_fails_the_run(engine_of: EngineOf) -> None:
    """Exactly the limit and then returning is fine; one more fails the run without retry, caught or not."""
    for steps, status in ((5, "completed"), (6, "failed")):
        async with engine_of(stepping_app(steps), limits=Limits(steps_per_run_max=5)) as engine:
            await engine.send(Event("go"))
            run = engine.runs()[-1]
            assert run.status == status
            assert len(run.steps) == 5
            assert status == "completed" or "step-limit" in str(run.error)
