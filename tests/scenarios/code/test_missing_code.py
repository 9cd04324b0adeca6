"""A run whose worker lacks its code, as during a rollout, waits for the code and loses no attempt."""

import pytest

from stepstream import App, Context, Event, on
from tests.scenarios.conftest import EngineOf, on_disk


def shop(*, newer: bool) -> App:
    """Make one of two versions of an app: the newer one has one more function, with a step in a queue."""
    app = App("shop", queues=["slow"])

    @app.function(on("old"))
    async def known(ctx: Context) -> str:
        return "known"

    if newer:

        @app.function(on("go"), retries=0)
        async def added(ctx: Context) -> str:
            await ctx.step.sleep("nap", "1h")
            return await ctx.step.options(queue="slow").run("slow", lambda: "done")

    return app


@on_disk
async def test_a_run_waits_for_its_code(engine_of: EngineOf, caplog: pytest.LogCaptureFixture) -> None:
    """If no worker has the code of a run, a warning says so, and the run continues when the code is back.

    The worker that lacks the code logs it each time that it gets the run.
    """
    async with engine_of(shop(newer=True)) as engine:
        await engine.send(Event("go"))
        now = engine.now_ms
    async with engine_of(shop(newer=False), now_ms=now) as engine:
        await engine.advance("1d")
        run = engine.run()
        assert run.status == "running"
        assert ["has no function 'added'" in warning for warning in run.warnings] == [True]
        (why,) = await engine.why()
        assert why.code == "missing-code"
        assert "the latest release of app 'shop' has no function 'added'" in why.text
        logged = [record for record in caplog.records if record.name == "stepstream.runtime.worker.reports"]
        assert "this worker of app shop has no function added: the run is postponed for" in logged[0].getMessage()
        assert {(line.__dict__["run_id"], line.__dict__["function"]) for line in logged} == {(run.run_id, "added")}
        now = engine.now_ms
    async with engine_of(shop(newer=True), now_ms=now) as engine:
        await engine.advance("10m")
        assert engine.run().output == "done"
