"""Scenarios for the examples of docs/concepts.md: each wrong one goes wrong, each right one does not."""

import itertools
import sys
from typing import Any

from stepstream import Event
from stepstream.testing import Crash, VirtualEngine
from tests.docs.scenarios import Scenarios

# Every run is replayed after every step, which shows what a crash at that point would show.
CONCEPTS = Scenarios("concepts.md", lambda: {"live_cache": False})


def page() -> Any:
    """Return the module of the page's examples."""
    return sys.modules["concepts_page"]


def output(engine: VirtualEngine, function: str) -> Any:
    """Return the output of the only run of a function."""
    return engine.run(function).output


@CONCEPTS.shows("fulfil")
async def replay(engine: VirtualEngine) -> None:
    """Each body runs once although the code runs again."""
    await engine.send(Event("order.placed", {"total": 5}))
    await engine.advance("1d")
    assert output(engine, "fulfil") == "shipped against receipt for 5"
    assert [step.attempts for step in engine.run("fulfil").steps] == [1, 1, 1]


@CONCEPTS.shows("draw-wrong", "draw-right")
async def deterministic(engine: VirtualEngine) -> None:
    """What is drawn between steps changes with the replay; the result of a step does not."""
    draws = itertools.cycle("ab")
    page().random = type("Draws", (), {"choice": staticmethod(lambda _names: next(draws))})
    await engine.send(Event("draw.requested", {"names": ["a", "b"]}))
    await engine.advance("14d")
    announced, paid = output(engine, "draw-wrong")
    assert announced.split()[0] != paid.split()[0]
    announced, paid = output(engine, "draw-right")
    assert announced.split()[0] == paid.split()[0]


@CONCEPTS.shows("welcome-wrong", "welcome-right")
async def side_effects(engine: VirtualEngine) -> None:
    """A mail between steps is sent twice, one of a step once."""
    page().sent.clear()
    await engine.send(Event("user.joined", {"name": "Ann"}))
    await engine.advance("7d")
    assert page().sent.count("welcome, Ann") == 2 + 1


# A crash may come before the body of the other run has begun: after six of them, both bodies have run more than once.
@CONCEPTS.shows(
    "collect-wrong",
    "collect-right",
    engine=lambda: {"crashes": [Crash("worker", "before", "charge") for _ in range(6)]},
)
async def at_least_once(engine: VirtualEngine) -> None:
    """Bodies whose worker dies run again: with a new key the customer pays twice, with a derived one once."""
    page().bank.charges.clear()
    await engine.send(Event("invoice.due", {"cents": 5}))
    right = engine.run("collect-right").run_id
    charges = list(page().bank.charges)
    assert charges.count(f"{right}/charge") == 1
    assert len(charges) > 2


@CONCEPTS.shows("crawl-wrong", "crawl-right")
async def ids(engine: VirtualEngine) -> None:
    """When the list changes, an id by number gives the result of another item, an id by name does not."""
    pages: list[str] = page().pages
    await engine.send(Event("crawl.requested"))
    pages.insert(0, "a")
    await engine.advance("5m")
    assert output(engine, "crawl-wrong")["a"] == len("imprint")
    assert output(engine, "crawl-right") == {"imprint": 7, "prices": 6}
    pages.remove("a")


@CONCEPTS.shows("check-wrong", "check-right")
async def order_of_a_set(engine: VirtualEngine) -> None:
    """While no worker replays the code, both are right; tests/scenarios/parallel/test_as_completed.py replays them."""
    await engine.send(Event("check.requested"))
    assert (output(engine, "check-wrong"), output(engine, "check-right")) == (13, 13)


@CONCEPTS.shows("quote-wrong", "quote-right")
async def mutation(engine: VirtualEngine) -> None:
    """What a body changed is gone after a replay, what it returned is not."""
    await engine.send(Event("quote.requested", {"net": 100}))
    await engine.advance("1h")
    assert output(engine, "quote-wrong") is None
    assert output(engine, "quote-right") == 119


@CONCEPTS.shows("offer-wrong", "offer-right")
async def timers(engine: VirtualEngine) -> None:
    """The timeout of the step ends after two days; that of asyncio has not counted them."""
    await engine.send(Event("offer.sent", {"offer": 1}))
    await engine.advance("49h")
    assert engine.run("offer-wrong").status == "running"
    assert output(engine, "offer-right") == "expired"


@CONCEPTS.shows("hold-wrong", "hold-right")
async def suspension(engine: VirtualEngine) -> None:
    """The room is released before the guest has paid by the wrong function, and not by the right one."""
    page().released.clear()
    await engine.send(Event("room.held", {"room": 1}))
    assert page().released == [1]
    await engine.send(Event("room.paid", {"room": 1}))
    assert output(engine, "hold-right") is True
    assert page().released == [1, 1]
