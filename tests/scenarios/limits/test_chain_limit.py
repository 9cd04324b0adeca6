"""A chain of runs that start one another ends at a limit, so that a loop of events or invocations ends."""

import pytest

from stepstream import App, Context, DefinitionError, Event, StepError, ThreadedContext, on
from tests.scenarios.conftest import EngineOf


async def test_a_loop_of_events_ends_at_the_limit(engine_of: EngineOf) -> None:
    """Two functions that send each other's trigger stop at the last run of the chain, with an error that says why."""
    app = App("loops", chain_max=5)

    @app.function(on("ping"))
    async def ping(ctx: Context) -> None:
        await ctx.step.send_event("pong", Event("pong"))

    @app.function(on("pong"))
    async def pong(ctx: Context) -> None:
        await ctx.step.sleep("nap", "1h")
        await ctx.step.send_event("ping", Event("ping"))

    async with engine_of(app) as engine:
        await engine.send(Event("ping"))
        await engine.advance("1d")
        runs = engine.runs()
        assert [(run.function, run.status) for run in runs] == [
            ("ping", "completed"),
            ("pong", "completed"),
            ("ping", "completed"),
            ("pong", "completed"),
            ("ping", "failed"),
        ]
        assert "chain of 5 runs" in str(runs[-1].error)
        assert "App('loops', chain_max=)" in str(runs[-1].error)
        await engine.send(Event("ping"))
        await engine.advance("1d")
        assert len(engine.runs()) == 10, "an event from outside starts a new chain"


async def test_a_function_that_invokes_itself_ends_at_the_limit(engine_of: EngineOf) -> None:
    """The invocations count as events do; the error can be caught, and its code says what it is."""
    app = App("loops", chain_max=4)

    @app.function(on("go"))
    async def deeper(ctx: Context) -> int | str:
        try:
            below = await ctx.step.invoke("below", function="deeper")
        except StepError as error:
            return error.code
        return below if isinstance(below, str) else 0

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert [run.output for run in engine.runs()] == ["chain-limit"] * 4


async def test_a_loop_through_end_events_and_handlers_ends(engine_of: EngineOf) -> None:
    """A run that on_failure or a listener of ends starts belongs to the chain of the run that ended."""
    app = App("loops", chain_max=6)

    async def again(ctx: Context) -> None:
        await ctx.step.send_event("again", Event("go"))

    @app.function(on("go"), retries=0, on_failure=again)
    async def function(ctx: Context) -> None:
        raise ValueError("no")

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert len(engine.runs("function")) == 3
        assert [run.status for run in engine.runs("function-on-failure")] == ["completed", "completed", "failed"]


async def test_parallel_runs_do_not_lengthen_a_chain(engine_of: EngineOf) -> None:
    """A fan-out of many runs is one link of the chain, however many they are."""
    app = App("loops", chain_max=2)

    @app.function(on("item"))
    async def item(ctx: Context) -> int:
        return int(ctx.event.data["n"])

    @app.function(on("go"))
    async def fan_out(ctx: Context) -> int:
        await ctx.step.send_event("items", [Event("item", {"n": n}) for n in range(10)])
        return sum([await ctx.step.invoke(f"item {n}", function=item, data={"n": n}) for n in range(10)])

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run("fan-out").output == 45
        assert len(engine.runs("item")) == 20


@pytest.mark.parametrize("chain_max", [0, -1, 1_000_001])
def test_a_limit_out_of_bounds_is_refused(chain_max: int) -> None:
    """App(chain_max=) is 1 to 1,000,000."""
    with pytest.raises(DefinitionError, match="use 1 to 1,000,000"):
        App("loops", chain_max=chain_max)


@pytest.mark.parametrize("threaded", [False, True])
async def test_events_sent_by_the_app_belong_to_the_chain(engine_of: EngineOf, threaded: bool) -> None:
    """A body that sends its own trigger over the app, and not by a step, is refused in the last run too."""
    app = App("loops", chain_max=4)

    async def again() -> None:
        await app.send(Event("go"))

    async def code(ctx: Context) -> None:
        await ctx.step.run("again", again)

    def plain_code(ctx: ThreadedContext) -> None:
        ctx.step.run("again", again)

    app.function(on("go"), id="function")(plain_code if threaded else code)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        runs = engine.runs()
        assert [run.status for run in runs] == ["completed"] * 3 + ["failed"]
        assert "chain of 4 runs" in str(runs[-1].error)


async def test_runs_that_signals_start_belong_to_the_chain(engine_of: EngineOf) -> None:
    """A signal that starts a run at once counts, and so does one that starts it when the run before it ends."""
    app = App("loops", chain_max=4)

    async def again() -> None:
        await app.signal_with_start("own", function="function")

    @app.function(on("go"))
    async def function(ctx: Context) -> None:
        await ctx.step.run("again", again)

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        runs = engine.runs()
        assert [run.status for run in runs] == ["completed"] * 3 + ["failed"]
        assert "chain of 4 runs" in str(runs[-1].error)
