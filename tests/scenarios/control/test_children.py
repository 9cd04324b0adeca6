"""Runs that are invoked with on_parent_end="cancel" are cancelled when their parent ends; others continue."""

from typing import Any

from stepstream import App, Context, Event, NonRetriableError, ThreadedContext, on
from tests.scenarios.conftest import EngineOf


class Family:
    """A parent that invokes two children, one of which ends with it."""

    def __init__(self) -> None:
        self.app = App("family")
        self.ran: list[str] = []

        @self.app.function()
        async def child(ctx: Context) -> None:
            await ctx.step.sleep("nap", "1h")
            await ctx.step.run("work", self.ran.append, ctx.event.data["name"])

        @self.app.function(on("go"))
        async def parent(ctx: Context) -> None:
            invoke = ctx.step.invoke
            await ctx.group.parallel(
                invoke("bound", function=child, data={"name": "bound"}, on_parent_end="cancel"),
                invoke("free", function=child, data={"name": "free"}),
            )

        @self.app.function(on("timeout"), retries=0)
        def impatient(ctx: ThreadedContext) -> None:
            try:
                ctx.step.invoke("bound", function=child, data={"name": "bound"}, timeout="1m", on_parent_end="cancel")
            except Exception as error:
                raise NonRetriableError("too slow") from error


async def test_a_child_is_cancelled_with_its_parent(engine_of: EngineOf) -> None:
    """Its error names the parent; the other child continues."""
    family = Family()
    async with engine_of(family.app) as engine:
        await engine.send(Event("go"))
        (parent,) = engine.runs("parent")
        await engine.cancel(parent.run_id)
        cancelled: Any
        (cancelled,) = engine.runs("child", status="cancelled")
        assert parent.run_id in cancelled.error["message"]
        await engine.advance("2h")
        assert sorted(run.status for run in engine.runs("child")) == ["cancelled", "completed"]
    assert family.ran == ["free"]


async def test_a_child_that_its_parent_awaits_ends_before_it(engine_of: EngineOf) -> None:
    """Nothing is cancelled."""
    family = Family()
    async with engine_of(family.app) as engine:
        await engine.send(Event("go"))
        await engine.advance("2h")
        assert {run.status for run in engine.runs()} == {"completed"}
    assert sorted(family.ran) == ["bound", "free"]


async def test_a_child_is_cancelled_after_its_step_timed_out(engine_of: EngineOf) -> None:
    """It continues when its step times out, and is cancelled when the parent fails."""
    family = Family()
    async with engine_of(family.app) as engine:
        await engine.send(Event("timeout"))
        assert engine.run("child").status == "running"
        await engine.advance("1m")
        assert engine.run("impatient").status == "failed"
        assert engine.run("child").status == "cancelled"
        await engine.advance("2h")
    assert family.ran == []


async def test_a_request_cancels_the_children_too(engine_of: EngineOf) -> None:
    """Both children are cancelled with their parent; the answer is that of the parent."""
    family = Family()
    async with engine_of(family.app) as engine:
        await engine.send(Event("go"))
        assert await engine.cancel(engine.run("parent").run_id, children=True)
        assert {run.status for run in engine.runs()} == {"cancelled"}
        assert not await engine.cancel(engine.run("parent").run_id, children=True)
        await engine.advance("2h")
    assert family.ran == []
