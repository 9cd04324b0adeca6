"""Scenarios for the examples of docs/functions.md."""

from stepstream import Event
from stepstream.testing import VirtualEngine
from tests.docs.scenarios import Scenarios

FUNCTIONS = Scenarios("functions.md")


@FUNCTIONS.shows("charge-order")
async def define(engine: VirtualEngine) -> None:
    """An order with a total is charged; one without starts nothing."""
    await engine.send(Event("order.created", {"total": 5}), Event("order.created", {"total": 0}))
    assert engine.run("charge-order").output == "receipt for 5"


@FUNCTIONS.shows("book")
async def declare(engine: VirtualEngine) -> None:
    """The model of the data is registered with the function."""
    await engine.send(Event("flight.booked", {"guests": 3, "cabin": "economy"}))
    assert engine.run("book").output == "3 in economy"


@FUNCTIONS.shows("write-report")
async def plain(engine: VirtualEngine) -> None:
    """A plain function continues after its sleep."""
    await engine.send(Event("report.requested", {"numbers": [3, 1, 2]}))
    await engine.advance("8h")
    assert engine.run("write-report").output == "median 2"


@FUNCTIONS.shows("ship-order")
async def attributes(engine: VirtualEngine) -> None:
    """A run has the attribute of its event, and those that its code set last."""
    await engine.send(Event("order.paid", {"order_id": 4711}))
    assert engine.run("ship-order").attributes == {"order_id": 4711, "stage": "waiting"}
    await engine.send(Event("order.packed", {"order_id": 4711}))
    assert engine.run("ship-order").attributes == {"order_id": 4711, "stage": "packed", "carrier": "rail"}


@FUNCTIONS.shows("import-rows")
async def state(engine: VirtualEngine) -> None:
    """The run keeps the state that its code set last."""
    await engine.send(Event("import.requested", {"pages": 3}))
    assert engine.run("import-rows").state == {"progress": {"page": 2, "of": 3}}


@FUNCTIONS.shows("build-index")
async def continue_as_new(engine: VirtualEngine) -> None:
    """The series has two runs."""
    await engine.send(Event("index.requested", {"index": "a", "page": 0, "last": 502}))
    assert sorted(str(run.output) for run in engine.runs("build-index")) == ["502 pages", "None"]
