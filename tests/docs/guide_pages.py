"""Scenarios for the examples of the guides: the pages that docs/functions.md lists."""

import sys
from collections import Counter

from stepstream import Event
from stepstream.testing import VirtualEngine
from tests.docs.flow_control_page import FLOW_CONTROL
from tests.docs.functions_page import FUNCTIONS
from tests.docs.scenarios import Scenarios

STEPS = Scenarios("steps.md")
WAITING = Scenarios("waiting.md")
TRIGGERS = Scenarios("triggers.md")
PARALLEL = Scenarios("parallel.md")
ERRORS = Scenarios("errors.md")
QUEUES = Scenarios("queues.md")
SOURCES = Scenarios("sources.md")
VERSIONING = Scenarios("versioning.md")
GUIDES = (FUNCTIONS, STEPS, WAITING, TRIGGERS, PARALLEL, ERRORS, FLOW_CONTROL, QUEUES, SOURCES, VERSIONING)


@STEPS.shows("charge-order")
async def run(engine: VirtualEngine) -> None:
    """A result goes from step to step."""
    await engine.send(Event("order.created", {"total": 5}))
    assert engine.run("charge-order").output == "RECEIPT FOR 5"


@STEPS.shows("make-quote")
async def types(engine: VirtualEngine) -> None:
    """The result of a step is a dataclass."""
    await engine.send(Event("quote.requested", {"net": 100}))
    assert engine.run("make-quote").output == 119


@STEPS.shows("send-invoice", "copy-archive")
async def options(engine: VirtualEngine) -> None:
    """Options do not change the result, and a body reads the progress that it has said."""
    await engine.send(Event("invoice.due", {"customer": "Ann"}), Event("archive.requested", {"pages": 4}))
    assert engine.run("send-invoice").output == "invoice to Ann"
    assert engine.run("copy-archive").output == 4


@STEPS.shows("announce-month")
async def send(engine: VirtualEngine) -> None:
    """Two events are sent by one step."""
    await engine.send(Event("month.closed", {"customers": ["a", "b"]}))
    assert engine.run("announce-month").output == 2


@STEPS.shows("answer-ticket")
async def model(engine: VirtualEngine) -> None:
    """Each call is a step whose answer is kept."""
    await engine.send(Event("ticket.opened", {"question": "why"}))
    assert engine.run("answer-ticket").output == "why"


@WAITING.shows("remind-of-trial")
async def sleep(engine: VirtualEngine) -> None:
    """It ends on the day that is named."""
    await engine.send(Event("trial.started"))
    await engine.advance("12d23h")
    assert engine.run("remind-of-trial").status == "running"
    await engine.advance("1h")
    assert engine.run("remind-of-trial").output == "it ends tomorrow"


@WAITING.shows("await-payment")
async def wait(engine: VirtualEngine) -> None:
    """Only the payment of this order wakes it, and only one that is high enough settles it."""
    await engine.send(Event("order.placed", {"order_id": 1, "total": 5}))
    await engine.send(Event("order.paid", {"order_id": 2}), Event("order.paid", {"order_id": 1}))
    await engine.send(Event("bank.settled", {"order_id": 1, "total": 4}))
    await engine.send(Event("bank.settled", {"order_id": 1, "total": 6}))
    assert engine.run("await-payment").output == {"paid": True, "settled": 6}


@WAITING.shows("await-courier")
async def lookback(engine: VirtualEngine) -> None:
    """A courier who came before the parcel was packed is seen."""
    await engine.send(Event("courier.arrived", {"gate": 3}))
    await engine.advance("30m")
    await engine.send(Event("parcel.packed", {"gate": 3}))
    assert engine.run("await-courier").output is True


@WAITING.shows("await-decision")
async def one_of_several(engine: VirtualEngine) -> None:
    """The payment that came first is the decision."""
    await engine.send(Event("order.accepted", {"order_id": 1}), Event("order.paid", {"order_id": 1, "total": 5}))
    assert engine.run("await-decision").output == "paid 5"


@WAITING.shows("await-parts")
async def all_of_several(engine: VirtualEngine) -> None:
    """Both parts are packed."""
    await engine.send(Event("order.confirmed", {"order_id": 1}))
    await engine.send(Event("books.packed", {"order_id": 1}), Event("discs.packed", {"order_id": 1}))
    assert engine.run("await-parts").output is True


@WAITING.shows("approve-expense")
async def signal(engine: VirtualEngine) -> None:
    """The signal of the text reaches the run that waits for it, and no other."""
    assert not await engine.signal("approved/42")
    await engine.send(Event("expense.filed", {"id": 42}), Event("expense.filed", {"id": 43}))
    assert await engine.signal("approved/42", {"by": "ann"})
    await engine.advance("14d")
    assert {run.output for run in engine.runs("approve-expense")} == {"approved by ann", "no answer"}


@WAITING.shows("fill-cart")
async def signal_with_start(engine: VirtualEngine) -> None:
    """Two items are put into one cart."""
    for item in ("pen", "ink"):
        await engine.signal_with_start("cart/7", item, function="fill-cart", start={"cart": 7})
    await engine.advance("1h")
    assert engine.run("fill-cart").output == ["pen", "ink"]


@WAITING.shows("keep-basket")
async def request(engine: VirtualEngine) -> None:
    """The sender of a request gets the reply, and sent again the same one."""
    await engine.send(Event("basket.opened"))
    run_id = engine.run("keep-basket").run_id
    item = {"name": "pen", "price": 3}
    assert await engine.request(run_id, "add", item, request_id="pen-1") == {"total": 3}
    assert await engine.request(run_id, "add", item) == {"total": 6}
    assert await engine.request(run_id, "add", item, request_id="pen-1") == {"total": 3}
    await engine.advance("1d")
    assert engine.run("keep-basket").output == 6


@WAITING.shows("ask-for-refund")
async def approval(engine: VirtualEngine) -> None:
    """A person approves with values, another rejects, and the third refund has no answer."""
    await engine.send(Event("refund.asked", {"order": 1}))
    await engine.decide("refund", approved=True, by="ann", values={"amount": 12})
    await engine.send(Event("refund.asked", {"order": 2}))
    await engine.decide("refund", approved=False, by="bob")
    await engine.send(Event("refund.asked", {"order": 3}))
    await engine.advance("3d")
    outputs = sorted(str(run.output) for run in engine.runs("ask-for-refund"))
    assert outputs == ["ann refunds 12", "no refund", "no refund"]


@TRIGGERS.shows("keep-books")
async def triggers(engine: VirtualEngine) -> None:
    """It starts by any name below `billing/`, by another, and on Monday morning."""
    await engine.send(Event("billing/paid"), Event("refund.paid"), Event("billing"))
    await engine.advance("5d")
    outputs = Counter(run.output for run in engine.runs("keep-books"))
    assert outputs.keys() >= {"billing/paid", "refund.paid"}
    assert sum(outputs.values()) == 3


@TRIGGERS.shows("vat", "write-invoice")
async def invoke(engine: VirtualEngine) -> None:
    """The other function's result comes back."""
    await engine.send(Event("invoice.requested", {"net": 100}))
    assert engine.run("write-invoice").output == 119
    assert engine.run("vat").output == 19


@PARALLEL.shows("plan-trip")
async def gather(engine: VirtualEngine) -> None:
    """Results come in the order of the code."""
    await engine.send(Event("trip.requested", {"to": "Rome"}))
    assert engine.run("plan-trip").output == ["flight to Rome", "hotel in Rome", "Small", "Large"]


@PARALLEL.shows("first-answer")
async def race(engine: VirtualEngine) -> None:
    """The first that settles wins, and the other is cancelled."""
    await engine.send(Event("offer.made", {"offer": 1}), Event("offer.made", {"offer": 2}))
    await engine.send(Event("offer.accepted", {"offer": 2}))
    await engine.advance("2d")
    runs = engine.runs("first-answer")
    assert {run.output for run in runs} == {"accepted", "too late"}
    assert all({step.status for step in run.steps} == {"completed", "cancelled"} for run in runs)


@PARALLEL.shows("import-pages")
async def loop(engine: VirtualEngine) -> None:
    """An id that is used again is another step."""
    await engine.send(Event("import.requested", {"pages": ["a", "bb"]}))
    assert engine.run("import-pages").output == [1, 2, 4, 4]
    assert [step.id for step in engine.run("import-pages").steps][2:] == ["one more", "one more"]


@ERRORS.shows("book-room", "book-room-on-failure")
async def failure(engine: VirtualEngine) -> None:
    """A final error is not retried, a delayed one is; an error that the function does not catch starts its handler."""
    sys.modules["errors_page"].__dict__["calls"].clear()
    await engine.send(Event("room.chosen", {"room": "2"}))
    await engine.advance("89s")
    assert engine.run("book-room").status == "running"
    await engine.advance("1s")
    assert engine.run("book-room").output == "2"
    await engine.send(Event("room.chosen", {"room": "0", "any": True}))
    assert {run.output for run in engine.runs("book-room")} == {"2", "1"}
    await engine.send(Event("room.chosen", {"room": "0"}))
    assert engine.run("book-room-on-failure").output == "0: there is no such room"


@QUEUES.shows("render-film")
async def queue(engine: VirtualEngine) -> None:
    """The body of a queue is run by its workers."""
    await engine.send(Event("film.uploaded", {"film": "M"}))
    (step,) = engine.run("render-film").steps
    assert (step.detail, step.output) == ("queue gpu", "frames of M")


@SOURCES.shows("fulfil")
async def source(engine: VirtualEngine) -> None:
    """The event that the source makes of a record starts the function."""
    await engine.send(Event("shop/order.created", {"order_id": 7}))
    assert engine.run("fulfil").output == "order 7 is confirmed"


@VERSIONING.shows("ship-order", "ship-order-2")
async def versions(engine: VirtualEngine) -> None:
    """New orders go to the new code."""
    await engine.send(Event("order.packed"))
    await engine.advance("25h")
    assert engine.run("ship-order-2").output == "by air"
    assert not engine.runs("ship-order")


@VERSIONING.shows("refund")
async def branch(engine: VirtualEngine) -> None:
    """The version of the event says which way a run goes."""
    await engine.send(Event("order.returned", {"total": 1}), Event("order.returned", {"total": 2}, v="2"))
    assert [run.output for run in engine.runs("refund")].count("1") == 1
    await engine.advance("1h")
    assert {run.output for run in engine.runs("refund")} == {"1", "2"}
