"""The state of a run: the last values that its code has set, live, after replays, and after its end."""

import pytest

from stepstream import App, Context, Event, StepError, ThreadedContext, on
from stepstream.contract.history import StateChanged
from stepstream.testing import Crash
from tests.scenarios.conftest import EngineOf


@pytest.mark.log
async def test_a_run_has_the_state_that_its_code_set_last(engine_of: EngineOf) -> None:
    """The code changes the state between steps; a replay passes through earlier values and records none of them."""
    app = App("imports")

    @app.function(on("import"))
    async def load(ctx: Context) -> object:
        for page in range(3):
            ctx.state["progress"] = {"page": page, "of": 3}
            await ctx.step.run("page", lambda: "ok")
        ctx.state["waits"] = True
        await ctx.step.wait_for_event("checked", event="checked", timeout="1h")
        del ctx.state["waits"]
        await ctx.step.sleep("rest", "1m")
        return ctx.state["progress"]

    async with engine_of(app) as engine:
        await engine.send(Event("import"))
        assert engine.run().state == {"progress": {"page": 2, "of": 3}, "waits": True}
        await engine.send(Event("checked"))
        assert engine.run().state == {"progress": {"page": 2, "of": 3}}
        await engine.advance("1m")
        run = engine.run()
        assert (run.status, run.output) == ("completed", {"page": 2, "of": 3})
        assert run.state == {"progress": {"page": 2, "of": 3}}
        pages = [entry.state for entry in engine.history if isinstance(entry, StateChanged)]
        assert len(pages) == 5


async def test_a_crash_repeats_no_change_of_the_state(engine_of: EngineOf) -> None:
    """A worker that dies in a step has reported the state before it; the next one reports only what is new."""
    app = App("imports")

    @app.function(on("import"))
    async def load(ctx: Context) -> str:
        ctx.state["stage"] = "loading"
        await ctx.step.run("load", lambda: 1)
        ctx.state["stage"] = "checking"
        await ctx.step.run("check", lambda: 1)
        return "done"

    async with engine_of(app, crashes=[Crash("worker", "before", "check")]) as engine:
        await engine.send(Event("import"))
        run = engine.run()
        assert (run.output, run.state) == ("done", {"stage": "checking"})
        stages = [bytes(entry.state["stage"]) for entry in engine.history if isinstance(entry, StateChanged)]
        assert stages == [b'"loading"', b'"checking"']


async def test_a_plain_function_sets_the_state(engine_of: EngineOf) -> None:
    """The code of a plain function, which runs in a thread, sets the state in its order."""
    app = App("imports")

    @app.function(on("import"))
    def load(ctx: ThreadedContext) -> str:
        for stage in ("new", "loading"):
            ctx.state["stage"] = stage
        ctx.step.run("load", lambda: 1)
        ctx.step.sleep("cool off", "1m")
        ctx.state["stage"] += " done"
        return "done"

    async with engine_of(app) as engine:
        await engine.send(Event("import"))
        assert engine.run().state == {"stage": "loading"}
        await engine.advance("1m")
        assert engine.run().state == {"stage": "loading done"}


async def test_a_successor_and_a_rerun_start_without_state(engine_of: EngineOf) -> None:
    """The state belongs to one run; its successor and its rerun set their own."""
    app = App("imports")

    @app.function(on("import"))
    async def load(ctx: Context) -> object:
        found = dict(ctx.state)
        if ctx.event.data.get("page") != 2:
            ctx.state["page"] = 1
            await ctx.continue_as_new({"page": 2})
        return found

    async with engine_of(app) as engine:
        await engine.send(Event("import"))
        first, second = engine.runs()
        assert (first.state, second.state, second.output) == ({"page": 1}, {}, {})
        await engine.rerun(second.run_id)
        assert engine.runs()[-1].state == {}


async def test_a_body_reads_the_state_and_does_not_set_it(engine_of: EngineOf) -> None:
    """A replay does not run the body again, so what the body sets would be lost; the error names heartbeats."""
    app = App("imports")

    @app.function(on("import"), retries=0)
    async def load(ctx: Context) -> object:
        def write() -> None:
            ctx.state["stage"] = "body"

        ctx.state["stage"] = "loading"
        read = await ctx.step.run("read", lambda: ctx.state["stage"])
        try:
            await ctx.step.run("write", write)
        except StepError as error:
            return [read, str(error)]
        return read

    async with engine_of(app) as engine:
        await engine.send(Event("import"))
        run = engine.run()
        assert isinstance(run.output, list)
        assert run.output[0] == "loading"
        assert "in the body of a step" in str(run.output[1])
        assert "ctx.heartbeat" in str(run.output[1])
        assert run.state == {"stage": "loading"}
