"""A process whose brokers are away says so once, is not ready meanwhile, and says once that they are back."""

import asyncio
import logging

import pytest

from stepstream.host.monitoring import contact, gauges
from tests.host.stand_ins import Backbone, StandIn, seated


async def asked(backbone: Backbone) -> None:
    """Return when the brokers were asked once more, and what they said is dealt with."""
    for _ in range(2):
        backbone.asked.clear()
        await asyncio.wait_for(backbone.asked.wait(), 10)


async def test_a_lost_contact_is_told_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Not at the first answer that fails, but after the time of a session; and so is that it is back."""
    monkeypatch.setattr(gauges, "MEASURE_S", 0.001)
    monkeypatch.setattr(gauges, "AGAIN_S", 0.001)
    caplog.set_level(logging.INFO, contact.logger.name)
    backbone = Backbone()
    seat = seated(StandIn(), backbone)
    measuring = asyncio.ensure_future(seat.measure())
    await asked(backbone)
    backbone.up = False
    await asked(backbone)
    assert not caplog.messages
    seat._contact._answered_at -= contact.LOST_S + 2
    assert seat.unready == "no broker has answered for 12 s"
    for _ in range(3):
        await asked(backbone)
    (line,) = caplog.messages
    assert line.startswith("no broker has answered for 12 s (reaching the cluster: no broker answers)")
    backbone.up = True
    await asked(backbone)
    assert not seat.unready
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert caplog.messages[1] == "a broker answers again, after 12 s"
    measuring.cancel()
