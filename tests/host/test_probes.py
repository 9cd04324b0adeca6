"""A worker's probes: ready with its place in the group, alive while the group knows it, guarded metrics."""

import asyncio
import time

import httpx
import pytest

from stepstream.api.probes import make_probes
from stepstream.host.monitoring import gauges
from stepstream.host.monitoring.gauges import WorkerSlot
from stepstream.host.settings import Settings, SettingsError, settings_from
from stepstream.runtime.kafka.worker_log import KafkaWorkerLog
from stepstream.runtime.metrics import Metrics
from tests.host.stand_ins import Backbone, StandIn, seated
from tests.runtime.exposition import Scrape


async def answers(seat: WorkerSlot, *, key: str = "", header: str = "") -> list[int]:
    """Return the status of /health, /ready and /metrics; what /ready says is what the metrics say."""
    metrics = Metrics("worker")
    metrics.ask(seat.read)
    api = make_probes(lambda: seat.alive, lambda: seat.unready, metrics.text, api_key=key)
    headers = {"Authorization": header} if header else {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://w") as client:
        return [(await client.get(path, headers=headers)).status_code for path in ("/health", "/ready", "/metrics")]


async def test_a_worker_is_ready_with_its_place_in_the_group() -> None:
    """It is not before it polls and the group has given it its partitions, nor while it drains."""
    begins = WorkerSlot("shop", Backbone())  # type: ignore[arg-type]  # As far as it is used.
    lost = StandIn(member=False, confirmed_at=time.monotonic() - 9)
    for seat, reason in (
        (begins, "it begins, and does not read its commands yet"),
        (seated(StandIn(serving=False)), "it begins, and does not read its commands yet"),
        (seated(StandIn(member=False, assignments=0)), "the group has not given it its partitions yet"),
        (seated(lost), "the group has not confirmed for 9 s that it is a member"),
    ):
        assert await answers(seat) == [200, 503, 200]
        assert seat.unready == reason
    stand_in = StandIn()
    seat = seated(stand_in)
    assert await answers(seat) == [200, 200, 200]
    await seat.drain(1.0)
    assert stand_in.drained == 1_000
    assert await answers(seat) == [200, 503, 200]
    assert seat.unready == "it drains: it takes nothing more, and what is at work ends"


async def test_a_probe_says_why_not() -> None:
    """The answer of /ready has the reason beside the status."""
    api = make_probes(lambda: True, lambda: "it drains", bytes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://w") as client:
        answer = await client.get("/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "not ready", "reason": "it drains"})


async def test_a_worker_that_is_lost_for_long_is_not_alive() -> None:
    """A membership lost for a moment is no harm; for minutes, the process should begin again."""
    seat = seated(StandIn(confirmed_at=time.monotonic() - 30))
    assert (await answers(seat))[0] == 200
    lost = time.monotonic() - gauges.LOST_S_MAX - 1
    stand_in = StandIn(confirmed_at=lost, member=False)
    seat = seated(stand_in)
    seat._confirmed_at = lost
    assert await answers(seat) == [503, 503, 200]
    # Another try that fares no better is no sign of life; one that is confirmed is.
    seat.take(StandIn(confirmed_at=0.0), StandIn(confirmed_at=0.0))  # type: ignore[arg-type]
    assert (await answers(seat))[0] == 503
    seat.take(StandIn(), StandIn())  # type: ignore[arg-type]
    assert (await answers(seat))[0] == 200


async def test_metrics_want_the_key_where_there_is_one() -> None:
    """The probes are open to the kubelet, the metrics to who knows the API key."""
    assert await answers(seated(StandIn()), key="secret") == [200, 200, 401]
    assert await answers(seated(StandIn()), key="secret", header="Bearer wrong") == [200, 200, 401]
    assert await answers(seated(StandIn()), key="secret", header="Bearer secret") == [200, 200, 200]


async def test_gauges_of_a_worker() -> None:
    """Slots and queue are those of the worker; rebalances go on counting when the worker begins again."""
    seat = seated(StandIn(assignments=2))
    seat.take(StandIn(), StandIn(assignments=3))  # type: ignore[arg-type]
    metrics = Metrics("worker")
    metrics.ask(seat.read)
    scrape = Scrape(metrics.text().decode())
    names = ("slots", "slots_in_use", "queue_runs", "cached_runs")
    assert [scrape.sum(f"stepstream_worker_{name}", app="shop") for name in names] == [4, 3, 2, 5]
    assert scrape.sum("stepstream_rebalances_total", group="worker") == 5
    assert scrape.sum("stepstream_ready") == 1


async def test_a_lag_that_is_not_known_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """While no broker answers there is no figure, which is better than an old one."""
    monkeypatch.setattr(gauges, "MEASURE_S", 0.001)
    monkeypatch.setattr(gauges, "AGAIN_S", 0.001)
    backbone = Backbone()
    seat = seated(StandIn(), backbone)
    measuring = asyncio.ensure_future(seat.measure())
    for up, wanted in (
        (True, {("shop", "0"): 10, ("shop", "1"): 11}),
        (False, {}),
        (True, {("shop", "0"): 10, ("shop", "1"): 11}),
    ):
        backbone.up = up
        for _ in range(2):
            backbone.asked.clear()
            await asyncio.wait_for(backbone.asked.wait(), 10)
        lags = {each.labels: each.value for each in seat.read() if each.name == "worker_lag_records"}
        assert lags == wanted
    measuring.cancel()


def test_a_worker_has_no_port_unless_told() -> None:
    """The port is off by default, and on the loopback unless another address is named."""
    assert (Settings().metrics_port, Settings().metrics_host) == (None, "127.0.0.1")
    assert settings_from({"STEPSTREAM_METRICS_PORT": "8289"}).metrics_port == 8289
    assert settings_from({"STEPSTREAM_METRICS_PORT": "8289"}, metrics_port=0).metrics_port == 0
    assert settings_from({"STEPSTREAM_METRICS_HOST": "0.0.0.0"}).metrics_host == "0.0.0.0"  # noqa: S104 - it is told
    assert settings_from({"STEPSTREAM_VERSION": "v2"}).version == "v2"
    with pytest.raises(SettingsError, match="metrics_port 'x'"):
        settings_from({"STEPSTREAM_METRICS_PORT": "x"})


def test_a_log_that_has_joined_nothing_is_no_member() -> None:
    """Membership begins with what the group gives, also when that is no partition."""
    log = KafkaWorkerLog(None, "shop", 4)  # type: ignore[arg-type]  # It is not opened.
    assert not log.member
    assert log.confirmed_at == 0
    log.assignments = 1
    assert log.member
    assert log.confirmed_at == pytest.approx(time.monotonic(), abs=5)
    log._fresh_from = {0: 5}
    assert not log.member
    log._confirmed_at = time.monotonic()
    assert log.member
