"""32 MiB for all memos of a run: beyond that, the run fails without retry."""

from stepstream import App, Context, Event, on
from stepstream.contract.limits import Limits
from tests.scenarios.conftest import EngineOf


async def test_memos_over_the_limit_fail_the_run(engine_of: EngineOf) -> None:
    """The memos of a run have a limit in all; beyond it the run fails, without retry."""
    app = App("limits")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        for number in range(20):
            await ctx.step.run(f"step-{number}", lambda: "x" * 98)

    async with engine_of(app, limits=Limits(run_memo_bytes_max=1_000)) as engine:
        await engine.send(Event("go"))
        assert engine.run().status == "failed"
        assert "run-state-limit" in str(engine.run().error)
