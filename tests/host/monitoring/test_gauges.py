"""The gauges of a worker's process."""

import asyncio

import pytest

from stepstream.host.monitoring import gauges
from stepstream.runtime.metrics import Metrics
from tests.host.stand_ins import Backbone, StandIn, gauges_of, slot_of
from tests.runtime.exposition import Scrape


async def test_gauges_of_a_worker_survive_its_restart() -> None:
    """Slots and queue are those of the current worker; rebalances continue to count when the worker is restarted."""
    slot = slot_of(StandIn(assignments=2))
    slot.take(StandIn(), StandIn(assignments=3))  # type: ignore[arg-type]
    metrics = Metrics("worker")
    metrics.ask(gauges_of(slot).read)
    scrape = Scrape(metrics.text().decode())
    names = ("slots", "slots_in_use", "queue_runs", "cached_runs", "body_threads", "body_threads_in_use")
    assert [scrape.sum(f"stepstream_worker_{name}", app="shop") for name in names] == [4, 3, 2, 5, 8, 7]
    assert scrape.sum("stepstream_rebalances_total", group="worker") == 5
    assert scrape.sum("stepstream_ready") == 1


async def test_an_unknown_lag_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """While no broker answers there is no figure, because an old one would look like a good one."""
    monkeypatch.setattr(gauges, "MEASURE_S", 0.001)
    monkeypatch.setattr(gauges, "AGAIN_S", 0.001)
    backbone = Backbone()
    worker = gauges_of(slot_of(StandIn()), backbone)
    measuring = asyncio.ensure_future(worker.measure())
    known = {("shop", "0"): 10, ("shop", "1"): 11}
    for up, expected in ((True, known), (False, {}), (True, known)):
        backbone.up = up
        await backbone.answered()
        lags = {each.labels: each.value for each in worker.read() if each.name == "worker_lag_records"}
        assert lags == expected
    measuring.cancel()
