"""A process that no broker answers is not ready, and logs once when contact is lost and once when it is back."""

import asyncio
import logging
from types import SimpleNamespace

import pytest

from stepstream.host import broker_contact
from stepstream.host.broker_contact import BrokerContact
from stepstream.host.monitoring import gauges
from stepstream.runtime.ports import LogError
from stepstream.runtime.supervision import keep_serving
from tests.host.stand_ins import Backbone, StandIn, gauges_of, slot_of
from tests.sim.loop import run


async def test_lost_contact_is_logged_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once the time of a session has passed, not at the first request that fails."""
    monkeypatch.setattr(gauges, "MEASURE_S", 0.001)
    monkeypatch.setattr(gauges, "AGAIN_S", 0.001)
    caplog.set_level(logging.INFO, broker_contact.logger.name)
    backbone, slot = Backbone(), slot_of(StandIn())
    measuring = asyncio.ensure_future(gauges_of(slot, backbone).measure())
    await backbone.answered()
    backbone.up = False
    await backbone.answered()
    assert not caplog.messages
    slot.contact._answered_at -= broker_contact.LOST_S + 2
    assert slot.unready == "no broker has answered for 12 s"
    for _ in range(3):
        await backbone.answered()
    (line,) = caplog.messages
    assert line.startswith("no broker has answered for 12 s (reaching the cluster: no broker answers)")
    backbone.up = True
    await backbone.answered()
    assert not slot.unready
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert caplog.messages[1] == "a broker answers again after 12 s"
    measuring.cancel()


class Suspended(Backbone):
    """A cluster that accepts requests and, once it is not `up`, answers none of them."""

    async def _wait(self) -> None:
        while not self.up:
            await asyncio.get_running_loop().create_future()

    async def ping(self) -> None:
        """Answer a new connection."""
        await self._wait()

    async def ends(self, places: tuple[tuple[str, int], ...]) -> dict[tuple[str, int], int]:
        """Return 10 for each place."""
        await self._wait()
        return await super().ends(places)


@pytest.mark.parametrize("answers", [1, 2, 3])
def test_lost_contact_is_logged_10_s_after_the_last_answer(
    answers: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also if each request waits until its time limit."""

    async def outage() -> None:
        monkeypatch.setattr(broker_contact, "time", SimpleNamespace(monotonic=asyncio.get_running_loop().time))
        second, backbone, slot = 1, Suspended(), slot_of(StandIn())  # seconds of virtual time
        measuring = asyncio.ensure_future(gauges_of(slot, backbone).measure())
        await asyncio.sleep((answers - 1) * gauges.MEASURE_S + 0.5)
        backbone.up = False
        await asyncio.sleep(broker_contact.LOST_S - second)
        assert not caplog.messages
        await asyncio.sleep(second)
        (line,) = caplog.messages
        assert line.startswith("no broker has answered for 10 s")
        measuring.cancel()

    run(outage())


async def fail_once(error: Exception) -> None:
    """Have a part of the process fail, and stop it."""

    async def serve() -> None:
        raise error

    part = asyncio.ensure_future(keep_serving("a part", serve))
    await asyncio.sleep(0)
    part.cancel()
    await asyncio.gather(part, return_exceptions=True)


async def test_failures_of_parts_are_not_logged_during_an_outage(caplog: pytest.LogCaptureFixture) -> None:
    """Each shard fails for the same reason, which was logged; an error with another cause is still logged."""
    contact = BrokerContact()
    contact._answered_at -= broker_contact.LOST_S + 2
    contact.missed(LogError("no broker answers"))
    caplog.clear()
    await fail_once(LogError("committing: no broker answers"))
    assert not caplog.messages
    await fail_once(ValueError("a bug"))
    contact.answered()
    await fail_once(LogError("another reason"))
    assert [line.partition(";")[0] for line in caplog.messages] == ["a part failed", "a part failed"]
    assert "another reason" in caplog.messages[1]
