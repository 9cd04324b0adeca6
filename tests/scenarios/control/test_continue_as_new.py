"""A run continues as new: it ends as completed, and its successor begins with an empty history."""

import pytest

from stepstream import App, Concurrency, Context, Event, ThreadedContext, on
from stepstream.contract.limits import Limits
from tests.scenarios.conftest import EngineOf


@pytest.mark.log
async def test_a_loop_is_longer_than_the_steps_of_a_run(engine_of: EngineOf) -> None:
    """A series of runs does more steps than one may have; its runs are linked both ways."""
    app = App("loops")

    @app.function(on("go"), attributes={"page": "event.data.page"})
    async def pages(ctx: Context) -> str:
        first = ctx.event.data["page"]
        ctx.set_attributes(kind="import")
        for page in range(first, first + 3):
            await ctx.step.run(f"page {page}", int, page)
        if first == 6:
            return f"{ctx.event.name} {ctx.event.id.partition(':')[2]}"
        try:
            await ctx.continue_as_new({"page": first + 3})
        except Exception:  # noqa: BLE001 - code that catches errors does not keep the run
            return "caught"

    async with engine_of(app, limits=Limits(steps_per_run_max=3)) as engine:
        await engine.send(Event("go", {"page": 0}))
        first, second, last = sorted(engine.runs(), key=lambda run: str(run.attributes))
        assert [run.output for run in (first, second, last)] == [None, None, "go continued"]
        assert {run.status for run in engine.runs()} == {"completed"}
        assert first.continuation == {"to": second.run_id}
        assert second.continuation == {"from": first.run_id, "number": 1, "to": last.run_id}
        assert last.continuation == {"from": second.run_id, "number": 2}
        assert second.attributes == {"page": 3, "kind": "import"}


async def test_a_caller_gets_the_result_of_the_last_run(engine_of: EngineOf) -> None:
    """The step that invoked the first run returns what the last one returns; plain functions continue alike."""
    app = App("loops")

    @app.function(concurrency=Concurrency(1, counts="runs"))
    def child(ctx: ThreadedContext) -> int:
        left: int = ctx.event.data["left"]
        ctx.step.sleep("nap", "1m")
        if left:
            ctx.continue_as_new({"left": left - 1})
        return left

    @app.function(on("go"))
    async def parent(ctx: Context) -> object:
        return await ctx.step.invoke("child", function=child, data={"left": 2})

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        await engine.advance("5m")
        assert engine.run("parent").output == 0
        assert [run.status for run in engine.runs("child")] == ["completed"] * 3


async def test_a_wrong_use_is_refused(engine_of: EngineOf) -> None:
    """A body cannot continue the run, and the data must be an object that an event may have."""
    app = App("loops")

    @app.function(on("go"), retries=0)
    async def function(ctx: Context) -> list[str]:
        async def body() -> None:
            await ctx.continue_as_new({})

        found: list[str] = []
        refused_data: tuple[object, ...] = ([], {"text": "x" * 600_000})
        for data in refused_data:
            with pytest.raises(Exception, match=r"must be a JSON object|bytes, at most") as refused:
                await ctx.continue_as_new(data)
            found.append(type(refused.value).__name__)
        with pytest.raises(Exception, match="in the body of a step"):
            await ctx.step.options(retries=0).run("body", body)
        return found

    async with engine_of(app) as engine:
        await engine.send(Event("go"))
        assert engine.run().output == ["InvalidInput", "TooLarge"]
