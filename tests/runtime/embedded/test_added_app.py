"""An app that is added to a running engine is served like the others."""

from stepstream import App, Context, Event, on
from stepstream.contract.history import HistoryEntry, RunEnded
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.embedded.log import EmbeddedBackbone
from stepstream.runtime.embedded.process import EmbeddedEngine, EngineOptions
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.registrations import changes
from stepstream.runtime.storage.journal import MemoryJournal


async def test_app_that_is_added_runs_its_functions() -> None:
    """An engine without apps gets one; an event then starts its function, and the app can send events."""
    app, clock, entries, index = App("late"), VirtualClock(1), list[HistoryEntry](), RunIndex()

    @app.function(on("go"))
    async def work(ctx: Context) -> int:
        return await ctx.step.run("one", lambda: 1)

    backbone = EmbeddedBackbone(MemoryJournal(), clock)
    engine = EmbeddedEngine([], backbone, clock, index, EngineOptions(watch=entries.append))
    await engine.start()
    await engine.until_idle()
    await backbone.append(changes({"late": [each.registration() for each in app]}, await backbone.functions()))
    engine.add(app)
    await app.send(Event("go"))
    await engine.until_idle()
    assert [bytes(each.output) for each in entries if isinstance(each, RunEnded)] == [b"1"]
    assert list(await engine.workers(["late"])) == ["late"]
    await engine.stop()
    index.close()
