"""A caller from outside starts one function: once for each request."""

import pytest

from stepstream import App, Context, StepstreamError, on
from stepstream.contract.codec import Raw
from stepstream.contract.events import INVOKED, EventRecord
from tests.scenarios.conftest import EngineOf


@pytest.mark.log
async def test_a_repeated_request_starts_one_run(engine_of: EngineOf) -> None:
    """The answer is the run that the first one started, also after its end; no other function starts."""
    app = App("outside")

    @app.function(on("go"))
    async def double(ctx: Context) -> int:
        return await ctx.step.run("double", lambda: int(ctx.event.data["n"]) * 2)

    @app.function(on("go"))
    async def other(ctx: Context) -> None:
        raise AssertionError("nothing starts this function")

    async with engine_of(app) as engine:
        operator = engine.engine.operator
        event = EventRecord(INVOKED, Raw(b'{"n": 4}'), id="r")
        first = await operator.invoke("double", event)
        again = await operator.invoke("double", event)
        await engine.until_idle()
        assert engine.run("double").output == 8
        assert {first, again, await operator.invoke("double", event)} == {engine.run("double").run_id}
        assert await operator.invoke("double", EventRecord(INVOKED, Raw(b'{"n": 1}'))) != first
        await engine.until_idle()
        assert {str(run.output) for run in engine.runs()} == {"2", "8"}
        with pytest.raises(StepstreamError, match="no function 'no' is registered"):
            await operator.invoke("no", event)
