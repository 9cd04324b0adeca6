"""Functions refuse runs beyond their limits: these are skipped, with a reason that their callers get."""

from stepstream import App, Concurrency, Context, Debounce, Event, RateLimit, Singleton, StepError, on
from tests.scenarios.conftest import EngineOf


async def test_a_run_beyond_a_rate_is_skipped(engine_of: EngineOf) -> None:
    """It ends at once, its caller gets the error, its code never ran, and it can be rerun later."""
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
        rerun = await engine.rerun(skipped.run_id)
        await engine.advance("1s")
        assert [run.status for run in engine.runs("mail") if run.run_id == rerun] == ["completed"]


async def test_the_run_of_the_last_event_starts_after_a_pause(engine_of: EngineOf) -> None:
    """The runs of earlier events are skipped, with the id of the later one, and the open one says when it starts."""
    app = App("refused")

    @app.function(on("go"), debounce=Debounce("30s", key="event.data.doc", timeout="1m"))
    async def index(ctx: Context) -> str:
        return await ctx.step.run("index", str, ctx.event.data["version"])

    async with engine_of(app) as engine:
        await engine.send(Event("go", {"doc": "a", "version": 1}))
        (why,) = await engine.why()
        assert "30.0 s after the last event, at most 1m 0s after the first for the key 'a'; it starts at" in why.text
        await engine.send(Event("go", {"doc": "a", "version": 2}))
        await engine.advance("20s")
        first, second = engine.runs("index")
        assert (first.status, second.status) == ("skipped", "queued")
        assert second.run_id in str(first.error)
        await engine.advance("10s")
        assert [run.output for run in engine.runs("index")] == [None, "2"]


async def test_a_newer_run_replaces_the_open_one(engine_of: EngineOf) -> None:
    """The open one ends as cancelled, with the id of the newer one, and the code of that starts after it."""
    app = App("refused")

    @app.function(on("go"), singleton=Singleton("cancel", key="event.data.site"))
    async def publish(ctx: Context) -> str:
        await ctx.step.sleep("nap", "10m")
        return str(ctx.event.data["version"])

    async with engine_of(app) as engine:
        for version in (1, 2, 3):
            await engine.send(Event("go", {"site": "a", "version": version}))
        await engine.advance("10m")
        first, second, third = engine.runs("publish")
        assert (first.status, second.status, third.output) == ("cancelled", "cancelled", "3")
        assert second.run_id in str(first.error)
        assert third.run_id in str(second.error)


async def test_a_caller_gets_the_id_of_the_run_that_is_open(engine_of: EngineOf) -> None:
    """Its own run is skipped, and no code of it starts."""
    app, started = App("refused"), set[str]()

    @app.function(singleton=Singleton("skip"))
    async def build(ctx: Context) -> None:
        started.add(ctx.run_id)
        await ctx.step.sleep("nap", "10m")

    @app.function(on("go"))
    async def caller(ctx: Context) -> str:
        try:
            await ctx.step.invoke("build", function=build, data={})
        except StepError as error:
            return f"{error.code}: {error}"
        return "built"

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.send(Event("go"))
        (building,) = engine.runs("build", status="running")
        assert started == {building.run_id}
        await engine.advance("10m")
        first, second = engine.runs("caller")
        assert first.output == "built"
        assert str(second.output).startswith("skipped: ")
        assert building.run_id in str(second.output)


async def test_runs_of_a_singleton_wait_for_one_another(engine_of: EngineOf) -> None:
    """Those of one key run one after the other, in the order of their events; other keys do not wait."""
    app, started = App("refused"), list[str]()

    @app.function(on("go"), singleton=Singleton("wait", key="event.data.account"))
    async def book(ctx: Context) -> None:
        await ctx.step.run("start", started.append, ctx.event.data["account"] + str(ctx.event.data["n"]))
        await ctx.step.sleep("nap", "10m")

    async with engine_of(app) as engine:
        for account, n in (("a", 1), ("a", 2), ("b", 1), ("a", 3)):
            await engine.send(Event("go", {"account": account, "n": n}))
        assert started == ["a1", "b1"]
        await engine.advance("30m")
        assert [run.status for run in engine.runs()] == ["completed"] * 4
    assert started == ["a1", "b1", "a2", "a3"]


async def test_a_key_starts_one_run(engine_of: EngineOf) -> None:
    """A caller that asks again gets the id of the first run, also after that has ended."""
    app = App("refused")

    @app.function(idempotency="event.data.order")
    async def pay(ctx: Context) -> str:
        return await ctx.step.run("pay", "paid {}".format, ctx.event.data["order"])

    @app.function(on("go"))
    async def caller(ctx: Context) -> str:
        try:
            return await ctx.step.invoke("pay", function=pay, data=ctx.event.data)
        except StepError as error:
            return f"{error.code}: {error}"

    async with engine_of(app) as engine:
        for _ in range(2):
            await engine.send(Event("go", {"order": 7}))
        first, second = engine.runs("caller")
        (paid,) = engine.runs("pay", status="completed")
        assert first.output == "paid 7"
        assert str(second.output).startswith("idempotent: ")
        assert paid.run_id in str(second.output)
        await engine.advance("24h")
        await engine.send(Event("go", {"order": 7}))
        assert engine.runs("caller")[-1].output == "paid 7"


def test_a_singleton_and_other_limits_go_together() -> None:
    """A limit on steps with the same key, and one on all open runs of the function."""
    app = App("refused")
    limits = [Concurrency(2, key="event.data.site"), Concurrency(5, counts="runs")]

    @app.function(singleton=Singleton("skip", key="event.data.site"), concurrency=limits)
    async def build(ctx: Context) -> None: ...

    assert build.gates[0].name == "singleton of function build by event.data.site"
    assert len(build.gates) == 3
