"""The pages of events: what each started, resumed and cancelled, what matched nothing, and sending one by a form."""

import dataclasses
from collections.abc import AsyncIterator

import httpx
import pytest

from stepstream import App, CancelOn, Context, Event, on
from stepstream.api.guards import Keys
from stepstream.api.http import make_api
from stepstream.contract.ids import is_run_id
from stepstream.runtime.overview import UnmatchedEvent
from stepstream.runtime.readmodel.tables import seen_events
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import Browser, browser_of
from tests.fakes.facades import facade_of

app = App("shop")


@app.function(on("order"))
async def fulfil(ctx: Context) -> None:
    """Wait for a parcel."""
    await ctx.step.wait_for_event("parcel", event="parcel/left", match="data.id", timeout="2h")


@app.function(on("order"))
async def notify(_ctx: Context) -> None:
    """End at once."""


@app.function(on("import"))
async def split(ctx: Context) -> None:
    """Send two orders."""
    await ctx.step.send_event("orders", [Event("order", {"id": number}) for number in range(2)])


@app.function(on("hotel"), cancel_on=[CancelOn("hotel/full", match="data.id"), CancelOn("parcel/left")])
async def book(ctx: Context) -> None:
    """Wait for a room."""
    await ctx.step.sleep("room", "1d")


@pytest.fixture
async def engine() -> AsyncIterator[VirtualEngine]:
    """Yield the engine of the shop."""
    async with VirtualEngine(app) as made:
        yield made


async def test_events_are_listed_with_what_they_started(engine: VirtualEngine) -> None:
    """An event that starts two functions is one row, with links to both runs."""
    await engine.send(Event("order", {"id": 1}, id="first"), Event("order", {"id": 2}, id="second"))
    browser = browser_of(engine)
    page = await browser.open("/ui/events")
    rows = page.texts("tbody tr")
    assert sorted(row.split(" ")[0] for row in rows) == ["first", "second"]
    assert all("fulfil waiting for event parcel/left" in row and "notify completed" in row for row in rows)
    assert page.texts("nav[aria-label=Pages] [aria-current=page]") == ["Events"]
    one = await browser.open(page.link("first"))
    assert one.path == "/ui/event?id=first"
    assert one.texts("h1") == ["order"]
    assert "id : 1" in one.texts(".json")[0]
    runs = await browser.open(one.link("All runs of the event"))
    assert len(runs.all("tbody tr")) == 2


async def test_an_event_of_a_run_is_linked_both_ways(engine: VirtualEngine) -> None:
    """The step leads to the events that it sent, and they and the runs that they started lead to the run."""
    await engine.send(Event("import"))
    browser = browser_of(engine)
    sender = engine.run("split").run_id
    page = await browser.open((await browser.open(f"/ui/runs/{sender}")).link("orders"))
    events = [link.attributes["href"] for link in page.all(".details dd a")]
    assert len(events) == 2
    event = await browser.open(events[0] or "")
    assert f"Sent by run …{sender[-6:]}" in event.text
    started = engine.runs("notify")[0].run_id
    assert f"Sent by run …{sender[-6:]}" in (await browser.open(f"/ui/runs/{started}")).text
    assert "Sent by run" not in page.text


async def test_an_event_keeps_the_time_of_its_first_run(engine: VirtualEngine) -> None:
    """A later rerun of one of its runs changes neither its place in the list nor its time."""
    await engine.send(Event("order", {"id": 1}, id="first"))
    await engine.advance("1h")
    await engine.send(Event("order", {"id": 2}, id="second"))
    before = await engine.index.queries.starting_events()
    assert [event.id for event in before.events] == ["second", "first"]
    await engine.advance("1h")
    (ended,) = [run for run in engine.runs("notify") if run.events[0]["id"] == "first"]  # type: ignore[index,call-overload]
    await engine.rerun(ended.run_id)
    await engine.until_idle()
    after = await engine.index.queries.starting_events()
    assert [(event.id, event.at) for event in after.events] == [(event.id, event.at) for event in before.events]
    whole = await engine.index.queries.event("first")
    assert whole is not None
    assert (whole.seen.at, len(whole.seen.started)) == (before.events[1].at, 3)


async def test_events_are_listed_with_what_they_resumed(engine: VirtualEngine) -> None:
    """An event that only ends waits starts no run; its row and its page name the steps."""
    await engine.send(Event("order", {"id": 1}), Event("order", {"id": 1}))
    await engine.send(Event("parcel/left", {"id": 1}, id="left-1"))
    browser = browser_of(engine)
    page = await browser.open((await browser.open("/ui/events")).link("resumed runs"))
    (row,) = page.texts("tbody tr")
    assert row.startswith("left-1 parcel/left 2026-01-01")
    assert row.count("fulfil , step parcel") == 2
    one = await browser.open(page.link("left-1"))
    assert one.texts("main h2") == ["Resumed", "Data"]
    raw = await browser.open(one.link("raw"))
    assert raw.response.json()["data"] == {"id": 1}


async def test_events_are_listed_with_what_they_cancelled(engine: VirtualEngine) -> None:
    """An event that only cancels runs has a row and a page, which says that its data is not kept."""
    await engine.send(*(Event("hotel", {"id": number}) for number in (1, 1, 2)))
    await engine.send(Event("hotel/full", {"id": 1}, id="full-1"))
    browser = browser_of(engine)
    page = await browser.open((await browser.open("/ui/events")).link("cancelled runs"))
    (row,) = page.texts("tbody tr")
    assert row.startswith("full-1 hotel/full 2026-01-01")
    cancelled = {f"…{run.run_id[-6:]} book" for run in engine.runs("book", status="cancelled")}
    assert {" ".join(item.split()) for item in page.texts("tbody td:last-child li")} == cancelled
    one = await browser.open(page.link("full-1"))
    assert one.texts("main h2") == ["Cancelled", "Data"]
    assert set(one.texts("li[data-row]")) == cancelled
    assert "not with those it cancels" in one.text
    assert not one.all("main .json")


async def test_an_event_may_resume_one_run_and_cancel_another(engine: VirtualEngine) -> None:
    """Its page has both, and its data."""
    await engine.send(Event("order", {"id": 1}), Event("hotel", {"id": 1}))
    await engine.send(Event("parcel/left", {"id": 1}, id="left-1"))
    browser = browser_of(engine)
    one = await browser.open("/ui/event?id=left-1")
    assert one.texts("main h2") == ["Resumed", "Cancelled", "Data"]
    assert "id : 1" in one.texts(".json")[0]
    for kind in ("resumed", "cancelled"):
        (row,) = (await browser.open(f"/ui/events?kind={kind}")).texts("tbody tr")
        assert ("step parcel" in row, "book" in row) == (True, True)
    listed = await browser.open(one.link("All runs of the event"))
    assert {row.split(" ")[1] for row in listed.texts("tbody tr")} == {"fulfil", "book"}
    runs = (await browser.client.get("/v1/events/left-1/runs")).json()["runs"]
    assert {run["function"] for run in runs} == {"fulfil", "book"}
    assert len((await browser.submit(listed, ".find", id="left-1")).all("tbody tr")) == 2


async def test_events_have_further_pages(engine: VirtualEngine) -> None:
    """A page has 50 events, and the next one the rest, of a name or of all; no event is on two pages."""
    await engine.send(*(Event("order", {"id": number}) for number in range(60)))
    await engine.send(*(Event("parcel/left", {"id": number}) for number in range(60)))
    browser = browser_of(engine)
    await engine.send(*(Event("hotel", {"id": number}) for number in range(60)))
    await engine.send(*(Event("hotel/full", {"id": number}) for number in range(60)))
    kinds = ("kind=resumed&name=parcel/left", "kind=cancelled&name=hotel/full")
    for path in ("/ui/events?name=order", *(f"/ui/events?{kind}" for kind in kinds)):
        page = await browser.open(path)
        older = await browser.open(page.link("Older events"))
        seen = [cells.split(" ")[0] for each in (page, older) for cells in each.texts("tbody tr")]
        assert (len(page.all("tbody tr")), len(seen), len(set(seen))) == (50, 60, 60)
        assert (await browser.open(older.link("Newest events"))).texts("tbody tr") == page.texts("tbody tr")
    for query in ("before=x", "kind=resumed&before=-1", "kind=cancelled&before=x", "kind=other", "nmae=a"):
        assert (await browser.open(f"/ui/events?{query}")).status == 400


async def test_a_search_is_bounded(engine: VirtualEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that examined its share without a match leads to the next one."""
    monkeypatch.setattr(seen_events, "EXAMINED_MAX", 10)
    await engine.send(Event("order", {"id": 1}, id="rare"))
    await engine.send(Event("parcel/left", {"id": 1}, id="rare-left"))
    await engine.advance("1s")
    await engine.send(*(Event("order", {"id": number}) for number in range(2, 12)))
    await engine.send(*(Event("parcel/left", {"id": number}) for number in range(2, 12)))
    assert not (await engine.index.queries.resuming_events("other")).events
    found, before, pages = list[str](), "", 0
    while pages == 0 or before:
        page = await engine.index.queries.starting_events("order", before=before)
        found, before, pages = [*found, *(event.id for event in page.events)], page.next, pages + 1
    assert (len(found), pages > 1) == (11, True)
    assert found[-1] == "rare"


async def sent(browser: Browser, **fields: str) -> tuple[int, str]:
    """Send an event by the form; return the status and the text of the answer."""
    page = await browser.submit(await browser.open("/ui/events"), ".actions", **fields)
    return page.status, page.text


async def test_an_event_is_sent_by_the_form(engine: VirtualEngine) -> None:
    """The answer shows what it started; a wrong field keeps what was entered, with the reason beside it."""
    browser = browser_of(engine)
    status, said = await sent(browser, name="order", data='{"id": 4}', id="by-form")
    assert (status, "The event was sent." in said) == (200, True)
    await engine.until_idle()
    page = await browser.open("/ui/event?id=by-form")
    assert "fulfil waiting for event parcel/left" in page.text
    assert "Sent by local" in " ".join(page.text.split())
    status, said = await sent(browser, name="order", data='{"id": ')
    assert (status, "not valid JSON" in said, '{"id":' in said) == (400, True, True)
    assert len(engine.runs("fulfil")) == 1


async def test_what_matched_nothing_is_listed_with_the_reason(engine: VirtualEngine) -> None:
    """A laptop knows it; an engine on Kafka says that it does not."""
    browser = browser_of(engine)
    page = await browser.open("/ui/events?kind=unmatched")
    assert "An engine on Kafka keeps no record" in page.text
    event = UnmatchedEvent("e-1", "oder", engine.now_ms, "did you mean 'order'?")
    for events, says in (([event], "e-1 oder 2026"), (list[UnmatchedEvent](), "has matched something")):
        facade = dataclasses.replace(facade_of(engine.engine), unmatched=events.copy)
        browser = Browser(make_api(facade, engine.index, bytes, now_ms=lambda: engine.now_ms))
        assert says in (await browser.open("/ui/events?kind=unmatched")).text
        one = await browser.open("/ui/event?id=e-1")
        assert (one.status, "did you mean 'order'?" in one.text) == ((200, True) if events else (404, False))


async def test_readers_see_events_without_the_form(engine: VirtualEngine) -> None:
    """An empty list says so."""
    browser = browser_of(engine, Keys("event", "api", "read"))
    browser.client.headers["Authorization"] = "Bearer read"
    page = await browser.open("/ui/events")
    assert "No event started a run yet." in page.text
    assert not page.all("main form[method=post]")
    assert "No event of this name resumed a run." in (await browser.open("/ui/events?kind=resumed&name=a")).text
    assert (await browser.client.post("/ui/events", data={"name": "order", "data": "{}"})).status_code == 403


async def test_events_are_answered_by_the_api(engine: VirtualEngine) -> None:
    """With what they started, resumed and cancelled, in pages."""
    await engine.send(Event("order", {"id": 1}, id="a"), Event("order", {"id": 2}, id="b"))
    await engine.send(Event("hotel", {"id": 1}, id="c"))
    await engine.send(Event("parcel/left", {"id": 1}, id="left"))
    api = make_api(facade_of(engine.engine), engine.index, bytes)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api), base_url="http://localhost") as client:
        first = (await client.get("/v1/events", params={"limit": 1})).json()
        second = (await client.get("/v1/events", params={"before": first["next"]})).json()
        assert sorted(event["id"] for event in first["events"] + second["events"]) == ["a", "b", "c"]
        assert is_run_id(first["next"])
        (left,) = (await client.get("/v1/events", params={"kind": "resumed"})).json()["events"]
        assert [(each["function"], each["id"]) for each in left["resumed"]] == [("fulfil", "parcel")]
        (left,) = (await client.get("/v1/events", params={"kind": "cancelled"})).json()["events"]
        assert [each["function"] for each in left["cancelled"]] == ["book"]
        for kind in ("resumed", "cancelled"):
            assert (await client.get("/v1/events", params={"kind": kind, "before": "x"})).status_code == 400
