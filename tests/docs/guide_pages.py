"""Scenarios for the examples of the guides: the pages that docs/functions.md lists."""

import sys
from collections import Counter

from stepstream import Event
from stepstream.testing import VirtualEngine
from tests.docs.functions_page import FUNCTIONS
from tests.docs.scenarios import Scenarios

STEPS = Scenarios("steps.md")
WAITING = Scenarios("waiting.md")
TRIGGERS = Scenarios("triggers.md")
PARALLEL = Scenarios("parallel.md")
ERRORS = Scenarios("errors.md")
FLOW_CONTROL = Scenarios("flow-control.md")
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


@FLOW_CONTROL.shows("embed")
async def two_bodies(engine: VirtualEngine) -> None:
    """Each page has its vector, in order."""
    await engine.send(*(Event("document.added", {"tenant": "a", "pages": [1, 2, 3]}) for _ in range(2)))
    assert [run.output for run in engine.runs()] == [["vector of 1", "vector of 2", "vector of 3"]] * 2


@FLOW_CONTROL.shows("import-file")
async def one_at_a_time(engine: VirtualEngine) -> None:
    """The second file of a tenant waits for the first; that of another tenant does not."""
    for file in ("a1", "a2", "b1"):
        await engine.send(Event("file.uploaded", {"tenant": file[0], "file": file}))
    assert [run.status for run in engine.runs()] == ["running", "queued", "running"]
    await engine.advance("2m")
    assert [run.output for run in engine.runs()] == ["rows of a1", "rows of a2", "rows of b1"]


@FLOW_CONTROL.shows("call-partner")
async def spread(engine: VirtualEngine) -> None:
    """Six calls start at once, and the seventh six seconds later."""
    await engine.send(*(Event("call.requested", {"partner": number}) for number in range(7)))
    assert [run.status for run in engine.runs(status="queued")] == ["queued"]
    await engine.advance("6s")
    assert not engine.runs(status="queued")


@FLOW_CONTROL.shows("answer", "summarize", "update-product")
async def shared(engine: VirtualEngine) -> None:
    """A question and an article that arrive together are answered one second apart; a shop with one product is next."""
    await engine.send(Event("question.asked", {"text": "why"}), Event("article.published", {"text": "all"}))
    assert sorted(run.status for run in engine.runs()) == ["completed", "queued"]
    await engine.send(*(Event("product.changed", {"shop": shop, "product": shop}) for shop in "aaab"))
    await engine.advance("1s")
    outputs = sorted(str(run.output) for run in engine.runs(status="completed"))
    assert outputs == ["answer to why", "summary of all", "updated a", "updated b"]


@FLOW_CONTROL.shows("research", "complete")
async def limited_steps(engine: VirtualEngine) -> None:
    """Eleven pages are read at once, and the twelfth two seconds later; a call with tokens starts each second."""
    await engine.send(*(Event("company.added", {"tenant": number, "name": "x"}) for number in range(4)))
    assert len(engine.runs(status="completed")) == 3
    await engine.advance("2s")
    assert [run.output for run in engine.runs()] == [
        [*(f"page {page} about x" for page in range(3)), "summary of x"]
    ] * 4
    await engine.send(*(Event("prompt.written", {"text": "why"}) for _ in range(3)))
    await engine.advance("1s")
    assert [run.output for run in engine.runs("complete")] == ["answer to why"] * 2 + [None]


@FLOW_CONTROL.shows("mail-followers")
async def refuse(engine: VirtualEngine) -> None:
    """The second price of a product within the hour is not mailed."""
    await engine.send(*(Event("price.changed", {"product": product, "price": 5}) for product in "aab"))
    assert [run.output for run in engine.runs("mail-followers")] == ["a costs 5", None, "b costs 5"]


@FLOW_CONTROL.shows("order-report")
async def prioritized(engine: VirtualEngine) -> None:
    """The report of a better plan is ordered before one that was queued earlier."""
    for report, plan in (("a", ""), ("b", ""), ("c", "pro")):
        await engine.send(Event("report.ordered", {"report": report, "plan": plan}))
    await engine.advance("1m")
    assert [run.output for run in engine.runs("order-report")] == ["ordered a", None, "ordered c"]


@FLOW_CONTROL.shows("index", "mail-owner")
async def debounced(engine: VirtualEngine) -> None:
    """A document is indexed once, half a minute after its last edit, and its owner gets one mail about all of them."""
    await engine.send(*(Event("document.edited", {"document": "a", "version": version}) for version in (1, 2)))
    await engine.advance("30s")
    assert [run.output for run in engine.runs("index")] == [None, "version 2"]
    await engine.advance("4m 30s")
    assert [run.output for run in engine.runs("mail-owner")] == ["new versions: 1, 2", None]


@FLOW_CONTROL.shows("insert")
async def batched(engine: VirtualEngine) -> None:
    """The rows of a table are inserted ten seconds after the first of them."""
    for row in (1, 2):
        await engine.send(Event("row.added", {"table": "a", "row": row}))
    await engine.advance("10s")
    assert [run.output for run in engine.runs("insert")] == ["2 rows", None]


@FLOW_CONTROL.shows("publish", "check-links")
async def one_open(engine: VirtualEngine) -> None:
    """The latest change of a site is published, and its links are checked once at a time."""
    for version in (1, 2, 3):
        await engine.send(Event("site.changed", {"site": "a", "version": version}))
    await engine.advance("1h")
    assert [run.output for run in engine.runs("publish")] == [None, None, "a 3"]
    assert [run.output for run in engine.runs("check-links")] == ["checked a", None, None]


@FLOW_CONTROL.shows("pay", "welcome")
async def idempotent(engine: VirtualEngine) -> None:
    """A payment is made once a day, and a customer is welcomed once a week."""
    requests = [Event("payment.requested", {"payment_id": 1}), Event("customer.created", {"email": "a@b.c"})]
    await engine.send(*requests)
    await engine.send(*requests)
    await engine.advance("24h")
    await engine.send(*requests)
    assert [run.output for run in engine.runs("pay")] == ["paid 1", None, "paid 1"]
    assert [run.output for run in engine.runs("welcome")] == ["welcome, a@b.c", None, None]


@FLOW_CONTROL.shows("remind-to-pay")
async def cancel_on(engine: VirtualEngine) -> None:
    """The run of the order that is withdrawn ends, and the other one continues."""
    await engine.send(*(Event("order.placed", {"order_id": number}) for number in (1, 2)))
    await engine.send(Event("order.withdrawn", {"order_id": 1}))
    await engine.advance("1d")
    ended = {str(run.status): run.output for run in engine.runs("remind-to-pay")}
    assert ended == {"cancelled": None, "completed": "please pay 2"}


@FLOW_CONTROL.shows("build-report")
async def timeouts(engine: VirtualEngine) -> None:
    """A run that gets its event in time completes, and one that waits for longer is cancelled."""
    await engine.send(*(Event("report.requested", {"day": day}) for day in ("mon", "tue")))
    await engine.send(Event("data.loaded", {"day": "tue"}))
    await engine.advance("1h")
    assert sorted(run.status for run in engine.runs("build-report")) == ["cancelled", "completed"]


@FLOW_CONTROL.shows("crawl", "crawl-site")
async def children(engine: VirtualEngine) -> None:
    """A child returns its result, or is cancelled with its parent."""
    await engine.send(Event("crawl.requested", {"site": "a.b"}))
    await engine.advance("10m")
    assert engine.run("crawl").output == 3
    await engine.send(Event("crawl.requested", {"site": "c"}))
    await engine.send(Event("crawl.stopped"))
    assert [run.status for run in engine.runs("crawl-site")] == ["completed", "cancelled"]


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
