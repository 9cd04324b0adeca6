"""Functions refuse runs beyond their limits: these are skipped, with a reason that their callers get."""

from stepstream import App, Context, Event, RateLimit, StepError, on
from tests.scenarios.conftest import EngineOf


async def test_a_run_beyond_a_rate_is_skipped(engine_of: EngineOf) -> None:
    """It ends at once, its caller gets the error, its code never ran, and it can be repeated later."""
    app, mailed = App("refused"), list[str]()

    @app.function(rate_limit=RateLimit(1, "1h", key="event.data.tenant"))
    async def mail(ctx: Context) -> str:
        mailed.append(ctx.run_id)
        return await ctx.step.run("mail", "to {}".format, ctx.event.data["tenant"])

    @app.function(on("go"))
    async def caller(ctx: Context) -> str:
        try:
            return await ctx.step.invoke("mail", function=mail, data=ctx.event.data)
        except StepError as error:
            return f"{error.code}: {error}"

    async with engine_of(app) as engine:
        for tenant in "aab":
            await engine.send(Event("go", {"tenant": tenant}))
        (skipped,) = engine.runs(status="skipped")
        limit = "the rate limit of function mail by event.data.tenant: 1 start in 1h 0m"
        assert [run.output for run in engine.runs("caller")] == [
            "to a",
            f"rate-limited: step 'mail': RunSkipped: the run was skipped: it exceeds {limit}",
            "to b",
        ]
        assert skipped.run_id not in mailed
        await engine.advance("1h")
        repeated = await engine.rerun(skipped.run_id)
        await engine.advance("1s")
        assert [run.status for run in engine.runs("mail") if run.run_id == repeated] == ["completed"]
