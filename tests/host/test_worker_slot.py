"""A worker's probes: ready with its place in the group, alive while the group knows it, metrics behind the key."""

import time
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from stepstream.api.routes.probes import make_probes
from stepstream.host.kafka_worker import WorkerSpec, _parts
from stepstream.host.settings import Settings, SettingsError, settings_from
from stepstream.host.worker_slot import LOST_S_MAX, WorkerSlot
from stepstream.runtime.kafka.workers.worker_log import KafkaWorkerLog
from stepstream.runtime.metrics import Metrics
from stepstream.sdk.app import App
from tests.fakes.cluster import FakeCluster
from tests.host.stand_ins import StandIn, gauges_of, slot_of


async def answers(slot: WorkerSlot, *, key: str = "", header: str = "") -> list[int]:
    """Return the statuses of /health, /ready and /metrics."""
    metrics = Metrics("worker")
    metrics.ask(gauges_of(slot).read)
    api = make_probes(lambda: slot.alive, lambda: slot.unready, metrics.text, api_key=key)
    headers = {"Authorization": header} if header else {}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://w") as client:
        return [(await client.get(path, headers=headers)).status_code for path in ("/health", "/ready", "/metrics")]


async def test_a_worker_is_ready_with_its_place_in_the_group() -> None:
    """It is not ready before it polls and the group has assigned its partitions, nor while it drains."""
    # In the middle of the second, which is rounded, so that a loaded machine has half a second for the answers.
    lost = StandIn(member=False, confirmed_at=time.monotonic() - 8.6)
    for slot, reason in (
        (slot_of(), "starting: commands are not read yet"),
        (slot_of(StandIn(serving=False)), "starting: commands are not read yet"),
        (slot_of(StandIn(member=False, assignments=0)), "the group has not assigned partitions yet"),
        (slot_of(lost), "the group has not confirmed the membership for 9 s"),
    ):
        assert slot.unready == reason
        assert await answers(slot) == [200, 503, 200]
    stand_in = StandIn()
    slot = slot_of(stand_in)
    assert await answers(slot) == [200, 200, 200]
    await slot.drain(1.0)
    assert stand_in.drained == 1_000
    assert await answers(slot) == [200, 503, 200]
    assert slot.unready == "draining: no new work is taken, running steps finish"


@pytest.mark.parametrize(("queue", "reason"), [("", "the functions are not registered yet"), ("gpu", "")])
def test_a_worker_is_ready_once_its_functions_are_registered(queue: str, reason: str) -> None:
    """An event that was sent before would start no run. Workers of queues register nothing."""
    backbone: Any = SimpleNamespace(append=None)
    slot, registrar, _ = _parts(WorkerSpec(App("shop", queues=["gpu"]), queue), FakeCluster(), 1, backbone)
    slot.take(StandIn(), StandIn())  # type: ignore[arg-type]
    assert slot.joined
    assert slot.unready == reason
    registrar.registered.set()
    assert slot.unready == ""


async def test_ready_says_why_not() -> None:
    """The answer of /ready has the reason beside the status."""
    api = make_probes(lambda: True, lambda: "draining", bytes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(api), base_url="http://w") as client:
        answer = await client.get("/ready")
    assert (answer.status_code, answer.json()) == (503, {"status": "not ready", "reason": "draining"})


async def test_a_worker_that_is_lost_for_minutes_is_not_alive() -> None:
    """A membership that is lost for a moment is harmless; after minutes the process should be restarted."""
    slot = slot_of(StandIn(confirmed_at=time.monotonic() - 30))
    assert (await answers(slot))[0] == 200
    lost = time.monotonic() - LOST_S_MAX - 1
    slot = slot_of(StandIn(confirmed_at=lost, member=False))
    slot._confirmed_at = lost
    assert await answers(slot) == [503, 503, 200]
    # A new worker that is not confirmed either is no sign of life; one that is confirmed is.
    slot.take(StandIn(confirmed_at=0.0), StandIn(confirmed_at=0.0))  # type: ignore[arg-type]
    assert (await answers(slot))[0] == 503
    slot.take(StandIn(), StandIn())  # type: ignore[arg-type]
    assert (await answers(slot))[0] == 200


async def test_metrics_need_the_key_if_there_is_one() -> None:
    """The probes are open to the kubelet, the metrics to clients that know the API key."""
    slot = slot_of(StandIn())
    assert await answers(slot, key="secret") == [200, 200, 401]
    assert await answers(slot, key="secret", header="Bearer wrong") == [200, 200, 401]
    assert await answers(slot, key="secret", header="Bearer secret") == [200, 200, 200]


def test_a_worker_has_no_port_by_default() -> None:
    """With a port it listens on the loopback unless another address is given."""
    assert (Settings().metrics_port, Settings().metrics_host) == (None, "127.0.0.1")
    assert settings_from({"STEPSTREAM_METRICS_PORT": "8289"}).metrics_port == 8289
    assert settings_from({"STEPSTREAM_METRICS_PORT": "8289"}, metrics_port=0).metrics_port == 0
    assert settings_from({"STEPSTREAM_METRICS_HOST": "0.0.0.0"}).metrics_host == "0.0.0.0"  # noqa: S104 - it is given
    assert settings_from({"STEPSTREAM_VERSION": "v2"}).version == "v2"
    with pytest.raises(SettingsError, match="metrics_port 'x'"):
        settings_from({"STEPSTREAM_METRICS_PORT": "x"})


def test_a_log_is_a_member_from_its_first_assignment() -> None:
    """An assignment without partitions counts as well; revoked partitions end the membership until it is confirmed."""
    log = KafkaWorkerLog(FakeCluster(), "shop", 4)
    assert not log.member
    assert log.confirmed_at == 0
    log.offsets.assign([], ())
    assert log.member
    assert log.confirmed_at == pytest.approx(time.monotonic(), abs=5)
    log.offsets.assign([0], ())
    assert not log.member
    log.lease.confirmed_at = time.monotonic()
    assert log.member
