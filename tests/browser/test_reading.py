"""Every page, for every reader: on a phone, in the dark, by assistive technology, and without JavaScript."""

import re
from collections.abc import Mapping
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.looks import SCHEMES, check_every_look
from tests.browser.shop import Shop
from tests.browser.watching import Watch

LONG = "a-word-that-has-no-place-to-break" * 20
# A name for each kind of page; see the fixture `paths`.
LISTS = (
    *("errors", "functions", "events", "resumed", "unmatched", "workers"),
    *("performance", "limits", "dead-letters", "cancelling"),
)
WAITS = ("approvals", "signals", "events", "sleeping", "queued", "scheduled")
PAGES = (
    "runs",
    "filtered",
    "misspelled",
    "nothing",
    "open",
    "failed",
    "steps",
    "loop",
    "rerun",
    *LISTS,
    *(f"waiting-{kind}" for kind in WAITS),
    "logs",
    "queued",
    "paused",
    "limit",
    "function",
    "approval",
    "bulk-preview",
    "bulk",
    "bulks",
    "event",
    "dead-letter",
    "missing",
)
STATUSES = {"misspelled": 400, "missing": 404}
REASON = f"<b>{LONG}"


@pytest.fixture(scope="module")
def paths(shop: Shop) -> Mapping[str, str]:
    """Return the path of each page, with something to show on it."""
    shop.append_unreadable(f"{{{LONG}".encode())
    parcel = shop.waiting("order", {"id": "reading", "total": 5, LONG: {"deep": [LONG, {"n": 1}]}}, "parcel")
    failed = shop.started("echo", {"text": LONG, "fails": True}, "failed")
    report = shop.started("report", {"pages": 12})
    asked = shop.show(shop.waiting("refund", {}, "ask"))
    shop.waiting("call", {"id": LONG[:200]}, "answer")
    exported = shop.waiting("export", {"id": "first", "text": REASON}, "night")
    withdrawn, queued, paused = (shop.started("export", {"id": each}, "queued") for each in ("gone", LONG, "paused"))
    shop.order("withdraw", {"id": "gone"})
    shop.until(withdrawn, "cancelled")
    shop.act_on_all("pause", f"run_id:{paused}", REASON)
    steps = "&".join(f"step={each['step']}" for each in shop.show(parcel)["steps"])
    operation = shop.act_on_all("rerun", f"run_id:{failed}", REASON)
    return {
        "runs": "/ui/runs",
        "filtered": "/ui/runs?filter=status:failed+function:echo",
        "misspelled": "/ui/runs?filter=staus:failed",
        "nothing": "/ui/runs?filter=function:unknown",
        "open": f"/ui/runs/{parcel}",
        "failed": f"/ui/runs/{failed}",
        "steps": f"/ui/runs/{parcel}?{steps}",
        "loop": f"/ui/runs/{report}?fold=page+%23",
        "rerun": f"/ui/runs/{failed}/rerun",
        "errors": "/ui/errors",
        "functions": "/ui/functions",
        "function": "/ui/function?id=write-report",
        "events": "/ui/events",
        "resumed": "/ui/events?kind=resumed",
        "unmatched": "/ui/events?kind=unmatched",
        "workers": "/ui/workers",
        "performance": "/ui/performance?sort=slowest",
        "limits": "/ui/limits",
        "dead-letters": "/ui/dead-letters",
        "cancelling": "/ui/events?kind=cancelled",
        **{f"waiting-{kind}": f"/ui/waiting?kind={kind}" for kind in WAITS},
        "logs": f"/ui/runs/{exported}",
        "queued": f"/ui/runs/{queued}",
        "paused": f"/ui/runs/{paused}",
        "limit": f"/ui/limit?name={quote(shop.get('/v1/limits')['limits'][0]['name'])}",
        "approval": f"/ui/approvals/{asked['run_id']}/{asked['steps'][0]['step']}",
        "bulk-preview": "/ui/bulk-preview?action=rerun&filter=function:echo",
        "bulk": f"/ui/bulk/{operation}",
        "bulks": "/ui/bulk",
        "event": f"/ui/event?id={shop.show(parcel)['events'][0]['id']}",
        "dead-letter": "/ui/dead-letter?place=0-0",
        "missing": "/ui/runs/01KDVDNA00ZP0GFMQQFK8ZDFSF",
    }


@pytest.mark.parametrize("name", PAGES)
def test_pages_fit_and_pass_axe(visit: Visit, shop: Shop, watch: Watch, paths: Mapping[str, str], name: str) -> None:
    """No page is wider than a phone or a desktop, and axe finds no violation on either, in the light or in the dark."""
    page = visit(shop.url)
    open_page(page, watch, paths, name)
    check_every_look(page)


def open_page(page: Page, watch: Watch, paths: Mapping[str, str], name: str) -> None:
    """Open a page by its name."""
    status = STATUSES.get(name, 200)
    if status != 200:
        watch.expect(str(status))
    answer = page.goto(paths[name])
    assert answer is not None
    assert answer.status == status


def test_the_scheme_follows_the_reader(visit: Visit, shop: Shop) -> None:
    """The background is light or dark as the reader's system is."""
    shades = []
    for scheme in SCHEMES:
        page = visit(shop.url, color_scheme=scheme)
        page.goto("/ui/runs")
        colour = str(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        shades.append(sum(map(int, re.findall(r"\d+", colour)[:3])))
    assert shades[0] > 700
    assert shades[1] < 100


def test_a_reader_needs_no_javascript(visit: Visit, shop: Shop, paths: Mapping[str, str]) -> None:
    """Without scripts a reader filters, opens a run, its steps, a loop, a value and a traceback."""
    page = visit(shop.url, java_script_enabled=False)
    page.goto("/ui/runs")
    page.get_by_label("Filter", exact=True).fill("function:write-report")
    page.get_by_role("button", name="Filter").click()
    page.locator("#runs a.id").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("write-report")
    page.get_by_role("link", name="page 0…11").click()
    page.get_by_role("link", name="page 7", exact=True).click()
    expect(page.locator(".details")).to_contain_text("number: 7")
    # A button that needs a script is not shown.
    expect(page.get_by_role("button", name="copy")).to_have_count(0)
    page.goto(paths["failed"])
    page.get_by_text("Traceback", exact=True).first.click()
    expect(page.locator(".failure pre").first).to_be_hidden()
