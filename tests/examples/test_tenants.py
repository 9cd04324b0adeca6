"""The example of many tenants: a shop with many imports delays no other, and the API gets the calls that it allows."""

from collections import Counter

from tenants import app

from stepstream import Event
from stepstream.testing import VirtualEngine

CALLS_PER_MINUTE, BURST = 60, 5
SMALL = [f"shop {number}" for number in range(10)]


def asked(shop: str, products: int) -> Event:
    """Return the event that asks for an import."""
    return Event("import.requested", {"shop": shop, "products": products})


async def test_no_shop_waits_for_the_backlog_of_another() -> None:
    """Ten shops have their products within the time of 16 calls, while one shop has a backlog of 160."""
    calls = Counter[int]()
    async with VirtualEngine(app, before_step=lambda *_: calls.update([engine.now_ms // 1_000])) as engine:
        await engine.send(*(asked("flood", 400) for _ in range(20)))
        await engine.send(*(asked(shop, 50) for shop in SMALL))
        await engine.advance("10s")
        assert [run.output for run in engine.runs(status="completed")].count(50) == len(SMALL)
        await engine.advance("50s")
    assert sum(calls.values()) == CALLS_PER_MINUTE + BURST + 1


async def test_a_shop_that_closes_leaves_the_queue() -> None:
    """Its imports end as cancelled, and the next shop has the API."""
    async with VirtualEngine(app) as engine:
        await engine.send(*(asked("flood", 400) for _ in range(20)))
        await engine.send(Event("shop.closed", {"shop": "flood"}), asked("ant", 100))
        await engine.advance("3s")
        assert Counter(run.status for run in engine.runs()) == {"cancelled": 20, "completed": 1}
        assert [run.output for run in engine.runs(status="completed")] == [100]
