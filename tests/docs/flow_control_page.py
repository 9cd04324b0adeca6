"""Scenarios for the examples of docs/flow-control.md."""

from stepstream import Event
from stepstream.testing import VirtualEngine
from tests.docs.scenarios import Scenarios

FLOW_CONTROL = Scenarios("flow-control.md")


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


@FLOW_CONTROL.shows("ship-box", "pack-box")
async def share_a_permit(engine: VirtualEngine) -> None:
    """Two boxes of a tenant are packed by runs that share one permit with theirs, and shipped after an hour."""
    await engine.send(*(Event("box.ordered", {"tenant": "a", "order": number}) for number in range(2)))
    assert [run.output for run in engine.runs("pack-box")] == ["packed 0", "packed 1"]
    await engine.advance("1h")
    assert [run.output for run in engine.runs("ship-box")] == ["packed 0, shipped", "packed 1, shipped"]


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
