"""The size of a list of runs that engines share, as its metric has it."""

import asyncio

import pytest

from stepstream.host.monitoring import database
from stepstream.host.monitoring.database import DatabaseGauge
from stepstream.runtime.metrics import Metrics
from stepstream.runtime.ports import StoreError
from stepstream.runtime.readmodel.index import RunIndex
from tests.runtime.exposition import Scrape


class Database(RunIndex):
    """A list of runs whose server gives one answer after another; after the last one, it never answers."""

    def __init__(self, *answers: int | StoreError) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked = 0
        self.awaited = asyncio.Event()
        self.resumed = asyncio.Event()

    async def server_bytes(self) -> int | None:
        """Return the next answer once the test has looked at the metric."""
        self.asked += 1
        self.awaited.set()
        await self.resumed.wait()
        self.resumed.clear()
        answer = self.answers.pop(0)
        if isinstance(answer, StoreError):
            raise answer
        return answer

    async def next(self) -> None:
        """Give an answer; return when the next one is asked for."""
        self.awaited.clear()
        self.resumed.set()
        await asyncio.wait_for(self.awaited.wait(), 10)


async def test_an_unknown_size_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no figure before the first answer, nor while the database is down; a scrape asks nothing."""
    monkeypatch.setattr(database, "MEASURE_S", 0)
    index = Database(1_000, StoreError("down"), 2_000)
    gauge, metrics = DatabaseGauge(index), Metrics("engine")
    metrics.ask(gauge.read)
    measuring = asyncio.ensure_future(gauge.measure())
    found = []
    await asyncio.wait_for(index.awaited.wait(), 10)
    for _ in range(3):
        found.append(Scrape(metrics.text().decode()).values("stepstream_read_model_bytes"))
        await index.next()
    found.append(Scrape(metrics.text().decode()).values("stepstream_read_model_bytes"))
    assert found == [[], [({}, 1_000)], [], [({}, 2_000)]]
    assert index.asked == 4
    measuring.cancel()
    index.close()
