"""Rows as cards: a phone shows no headings, so values that do not say what they are have labels."""

from dataclasses import replace
from urllib.parse import quote

import pytest

from stepstream import App, Concurrency, Context, Event, on
from stepstream.api.http import make_api
from stepstream.contract.operators.limit_settings import LimitAction, LimitChangeRequested
from stepstream.contract.topics import EVENTS
from stepstream.runtime.overview import UnmatchedEvent
from stepstream.runtime.ports import NewRecord
from stepstream.testing import VirtualEngine
from tests.api.pages.browsing import Browser, Page, words
from tests.fakes.facades import facade_of

app = App("shop")
LIMIT = "concurrency of function pick"
RUN = "/ui/runs/"


def charge() -> None:
    """Refuse each attempt."""
    raise ConnectionError("bank is down")


@app.function(on("order"), retries=1, backoff="1s", concurrency=Concurrency(1, counts="runs"))
async def pick(ctx: Context) -> None:
    """Hold the limit for a day."""
    await ctx.step.sleep("night", "1d")


@app.function(on("payment"), retries=1, backoff="1s")
async def pay(ctx: Context) -> None:
    """Fail twice."""
    await ctx.step.run("charge", charge)


@app.function(on("parcel"))
async def send(ctx: Context) -> None:
    """Wait for an event."""
    await ctx.step.wait_for_event("left", event="parcel/left", timeout="1d")


def unlabelled(page: Page) -> list[str]:
    """Return the cells, except the first of each row, that have only a number, a time or runs, and no label."""
    found = []
    for row in page.all("table.rows tbody tr:not(.details)"):
        for cell in row.css("td")[1:]:
            names = cell.css("time, a.id")
            is_bare = "number" in (cell.attributes.get("class") or "") or " ".join(map(words, names)) == words(cell)
            if words(cell) and is_bare and not cell.attributes.get("data-label"):
                found.append(cell.html or "")
    return found


def labels(page: Page, table: str) -> list[str]:
    """Return the labels of the first row of the table in a region, without those of its empty cells."""
    (region,) = page.all(f'[role=region][aria-label="{table}"]')
    row = region.css("table > tbody > tr")[0]
    return [label for cell in row.css("td") if words(cell) and (label := cell.attributes.get("data-label"))]


@pytest.fixture
async def engine() -> VirtualEngine:
    """Return an engine that was not started."""
    return VirtualEngine(app)


def browser_of(engine: VirtualEngine) -> Browser:
    """Return a browser of a page that lists an event that matched nothing."""
    unmatched = [UnmatchedEvent("e", "oder", engine.now_ms, "no function has it as its trigger")]
    facade = replace(facade_of(engine.engine), unmatched=lambda: unmatched)
    return Browser(make_api(facade, engine.index, lambda: b"", now_ms=lambda: engine.now_ms))


async def filled(engine: VirtualEngine) -> dict[str, str]:
    """Fill the tables; return the path of the page of each by a name."""
    await engine.send(*(Event("order", id=f"o{number}") for number in range(3)), Event("payment"), Event("parcel"))
    await engine.advance("1h")
    await engine.send(Event("parcel/left"))
    await engine.embedded.append([NewRecord(EVENTS, 0, b"key", b"unreadable", (("source", b"test"),))])
    await engine.until_idle()
    await engine.engine.operator.change_limit(LimitChangeRequested(LIMIT, LimitAction.PAUSE, "", by="Mia", why="stop"))
    operation = await engine.bulk("rerun", filter="function:pay", by="Mia", why="again")
    await engine.advance("1m")
    failed = engine.runs("pay")[0]
    return {
        "runs": "/ui/runs",
        "steps": f"{RUN}{failed.run_id}?step={failed.steps[0].step}",
        "preview": "/ui/bulk-preview?action=rerun&filter=function:pay",
        "bulks": "/ui/bulk",
        "bulk": f"/ui/bulk/{operation}",
        "limits": "/ui/limits",
        "limit": f"/ui/limit?name={quote(LIMIT)}",
        "events": "/ui/events",
        "resumed": "/ui/events?kind=resumed",
        "unmatched": "/ui/events?kind=unmatched",
        "dead-letters": "/ui/dead-letters",
        "dead-letter": "/ui/dead-letter?place=0-0",
        **{name: f"/ui/{name}" for name in ("errors", "functions", "performance", "workers")},
        **{kind: f"/ui/waiting?kind={kind}" for kind in ("queued", "sleeping")},
    }


async def test_bare_values_of_cards_have_labels(engine: VirtualEngine) -> None:
    """Numbers, times and links to runs say nothing without the heading of their column."""
    async with engine:
        browser = browser_of(engine)
        for name, path in (await filled(engine)).items():
            page = await browser.open(path)
            assert page.status == 200, path
            assert page.all(".rows tbody tr") or name == "bulk", path
            assert unlabelled(page) == [], path
            assert not [table for table in page.all("main table") if "rows" not in (table.attributes["class"] or "")]


TABLES = [
    ("runs", "Table of runs", "started took"),
    ("steps", "Attempts of charge", "attempt started took next attempt"),
    ("preview", "The newest of the runs", "started"),
    ("bulks", "Bulk operations", "runs outcomes started by reason"),
    ("limits", "Table of limits", "in use held by waiting first in the queue waits since"),
    ("limits", "Table of changes", "key numbers pause last change by why"),
    ("limit", "Table of changes", "change by why"),
    ("events", "Table of events", "name accepted started"),
    ("resumed", "Table of events", "name accepted resumed"),
    ("unmatched", "Events that matched nothing", "name sent why"),
    ("dead-letters", "Table of dead letters", "time from size why"),
    ("dead-letter", "Headers", "value"),
]


@pytest.mark.parametrize(("name", "table", "expected"), TABLES)
async def test_cards_have_labels(engine: VirtualEngine, name: str, table: str, expected: str) -> None:
    """Each table has its own; the first cell names the row."""
    async with engine:
        page = await browser_of(engine).open((await filled(engine))[name])
        assert " ".join(labels(page, table)) == expected
