"""A process that no broker answers is not ready, and logs once when contact is lost and once when it is back."""

import asyncio
import logging

import pytest

from stepstream.host import broker_contact
from stepstream.host.broker_contact import BrokerContact
from stepstream.host.monitoring import gauges
from stepstream.runtime.ports import LogError
from stepstream.runtime.supervision import keep_serving
from tests.host.stand_ins import Backbone, StandIn, gauges_of, slot_of


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
