"""What one short run costs a process that does nothing else, in counts that do not depend on the machine."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.history import HistoryEntry, RunEnded
from stepstream.engine.state.tables import TIMERS
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.embedded.log import EmbeddedBackbone
from stepstream.runtime.embedded.process import EmbeddedEngine, EngineOptions
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.shard.tables import StoreView
from stepstream.runtime.storage.rocks import RocksJournal
from stepstream.sdk.event import to_record

app = App("shop")


async def one() -> int:
    """Return a number; a body that is a plain function would run in a thread."""
    return 1


@app.function(on("go"))
async def three_steps(ctx: Context) -> int:
    """Run three steps, one after the other."""
    return sum([await ctx.step.run(f"step {number}", one) for number in range(3)])


class CountedIndex(RunIndex):
    """A read model that counts its transactions."""

    folds = 0

    def fold(self, records: Sequence[LogRecord]) -> list[HistoryEntry]:
        """Count and fold."""
        self.folds += 1
        return super().fold(records)


async def test_idle_run_costs_few_iterations_and_scans(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One three-step run: a transaction of the read model, and a look at the timers where one was set."""
    ended, scans = asyncio.Event(), 0
    scan = StoreView.scan

    def counting(view: StoreView, table: bytes, part: bytes, limit: int = 0, after: bytes = b"") -> Any:
        nonlocal scans
        scans += table == TIMERS.prefix
        return scan(view, table, part, limit, after)

    monkeypatch.setattr(StoreView, "scan", counting)
    journal, clock, index = RocksJournal(tmp_path / "db"), VirtualClock(1), CountedIndex()
    options = EngineOptions(watch=lambda entry: ended.set() if isinstance(entry, RunEnded) else None)
    engine = EmbeddedEngine([app], EmbeddedBackbone(journal, clock), clock, index, options)
    await engine.start()
    await engine.until_idle()
    scans = index.folds = iterations = 0
    await engine.send([to_record(Event("go"))])
    while not ended.is_set():
        iterations += 1
        await asyncio.sleep(0)
    assert index.folds == 1
    assert scans <= 2
    assert iterations <= 20
    await engine.stop(drain_s=0)
    index.close()
    journal.close()
