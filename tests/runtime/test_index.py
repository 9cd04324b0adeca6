"""The read model folds history: a repeat changes nothing, and a new one from the start is the same."""

import asyncio

from stepstream import App, Context, Event, on
from stepstream.contract.codec import encode
from stepstream.contract.history import HistoryEntry
from stepstream.contract.topics import HISTORY
from stepstream.runtime.index import RunIndex, RunView
from stepstream.runtime.ports import LogRecord
from stepstream.testing import VirtualEngine


async def history_of_a_day() -> tuple[list[HistoryEntry], list[RunView]]:
    """Return the history of runs of each kind, and what the engine's own read model says of them."""
    app = App("shop")

    def broken() -> None:
        raise ValueError("no")

    @app.function(on("go"), retries=1, backoff="1m")
    async def function(ctx: Context) -> object:
        await asyncio.gather(ctx.step.run("run", int), ctx.step.sleep("nap", "1h"))
        await ctx.step.wait_for_event("wait", event="never", timeout="1h")
        if ctx.event.data.get("fail"):
            await ctx.step.run("broken", broken)
        return {"n": 1}

    async with VirtualEngine(app) as engine:
        await engine.send(Event("go"), Event("go", {"fail": True}), Event("go", id="cancel-me"))
        await engine.cancel(engine.index.list(event_id="cancel-me")[0].run_id)
        await engine.advance("1d")
        return list(engine.history), list(engine.runs())


def records_of(history: list[HistoryEntry]) -> list[LogRecord]:
    """Return history as records of the log."""
    return [
        LogRecord(HISTORY, 0, offset, entry.run_id.encode(), encode(entry), (), entry.at)
        for offset, entry in enumerate(history)
    ]


def shown(index: RunIndex) -> list[RunView]:
    """Return all that a read model knows."""
    views = [index.show(run.run_id) for run in index.list(limit=100)]
    return sorted((view for view in views if view), key=lambda run: (run.accepted_at, run.run_id))


async def test_the_read_model_comes_back_from_history() -> None:
    """Folded anew from the first entry, entry by entry or twice over, it is the same; its position follows."""
    history, expected = await history_of_a_day()
    assert sorted(run.status for run in expected) == ["cancelled", "completed", "failed"]
    records = records_of(history)
    for batches in ([records], [[record] for record in records], [records, records], [records[:9], records[3:]]):
        index = RunIndex()
        for batch in batches:
            index.fold(batch)
        assert shown(index) == expected
        assert index.position(HISTORY, 0) == len(records)
        index.close()
