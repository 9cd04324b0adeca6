"""The list of runs: filters in the URL, pages, the keyboard, and finding a run by what was pasted."""

import re

from playwright.sync_api import Page, expect

from tests.browser.shop import Shop
from tests.browser.watching import Watch


def test_filter_is_still_set_after_going_back(page: Page, shop: Shop) -> None:
    """A reader filters, opens a run and goes back: the list is filtered as before, from its URL."""
    shop.waiting("order", {"id": "back", "total": 5}, "parcel")
    run_id = shop.started("order", {"id": "back", "total": -1}, "failed")
    page.goto("/ui")
    expect(page).to_have_title("Runs · stepstream")
    page.get_by_label("Filter", exact=True).fill("function:fulfil-order event:ord*")
    page.get_by_role("button", name="Filter").click()
    expect(page).to_have_url(re.compile("filter="))
    page.get_by_role("link", name=re.compile("^failed")).click()
    page.get_by_role("link", name=f"…{run_id[-6:]}").click()
    expect(page).to_have_url(re.compile(rf"/ui/runs/{run_id}$"))
    page.go_back()
    expect(page).to_have_url(re.compile("filter=.*status"))
    expect(page.get_by_label("Filter", exact=True)).to_have_value("function:fulfil-order event:ord* status:failed")
    expect(page.locator(".tabs [aria-current]")).to_contain_text("failed")
    assert set(page.locator("#runs td:nth-child(3)").all_inner_texts()) == {"failed"}


def test_a_misspelled_filter_is_explained(page: Page, watch: Watch) -> None:
    """A filter that is not one is refused beside its field, which keeps what was written."""
    watch.expect("400")
    page.goto("/ui/runs?filter=staus:failed")
    field = page.get_by_label("Filter", exact=True)
    expect(field).to_have_accessible_description(re.compile("staus"))
    expect(page.locator("#runs")).to_have_count(0)
    field.fill("status:failed")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("filter=status"))
    expect(page.get_by_role("alert")).to_have_count(0)


def test_a_run_is_found_by_what_was_pasted(page: Page, shop: Shop) -> None:
    """The search field of each page takes a run id, its end, an event id, and an attribute: the run opens."""
    run_id = shop.waiting("order", {"id": "find-me", "total": 5}, "parcel", id="order-4711")
    for given in (run_id, run_id[-6:].lower(), "order-4711", "find-me"):
        page.goto("/ui/runs")
        page.get_by_role("searchbox", name="Find a run").fill(given)
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile(f"/ui/runs/{run_id}$"))


def test_a_reader_needs_no_mouse(page: Page, shop: Shop) -> None:
    """The keys move through rows and pages, open a run, search, and show themselves."""
    for number in range(55):
        shop.order("report", {"pages": 0}, id=f"keys-{number}")
    shop.run_of("keys-54", lambda run: run["status"] == "completed")
    page.goto("/ui/runs?filter=function:write-report")
    rows = page.locator("[data-row]")
    focused = page.locator("[data-row]:focus-within")
    page.keyboard.press("j")
    page.keyboard.press("j")
    expect(focused).to_have_id(rows.nth(1).get_attribute("id") or "")
    page.keyboard.press("k")
    expect(focused).to_have_id(rows.nth(0).get_attribute("id") or "")
    page.keyboard.press("]")
    expect(page).to_have_url(re.compile("before="))
    # The URL of a page is there before its scripts, which read the keys.
    page.wait_for_load_state()
    page.keyboard.press("[")
    expect(page).not_to_have_url(re.compile("before="))
    page.wait_for_load_state()
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_be_hidden()
    page.keyboard.press("k")
    page.keyboard.press("o")
    expect(page.get_by_role("heading", level=1)).to_have_text("write-report")
    page.wait_for_load_state()
    page.keyboard.press("/")
    # In a field, keys are text.
    page.keyboard.type("jk?")
    expect(page.get_by_role("searchbox", name="Find a run")).to_have_value("jk?")
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_keys_move_through_approvals_and_rows_without_links(page: Page, shop: Shop) -> None:
    """`j`, `k` and Enter work where rows are forms, and where a row has nothing to open."""
    for number in range(2):
        shop.waiting("refund", {}, "ask", id=f"keys-{number}")
    page.goto("/ui/waiting?kind=approvals")
    focused = page.locator("[data-row]:focus-within h2")
    for key, number in (("j", 0), ("j", 1), ("k", 0)):
        page.keyboard.press(key)
        expect(focused).to_have_text(f"Refund keys-{number}?")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Refund keys-0?")
    page.goto("/ui/workers")
    rows = page.locator("[data-row]")
    for _ in range(rows.count()):
        page.keyboard.press("j")
    expect(rows.last).to_be_focused()


def test_values_differ_from_placeholders_and_clocks_are_compared(page: Page) -> None:
    """A value in a field has the colour of text; the time of an engine that is not the browser's is a notice."""
    page.goto("/ui/performance")
    color = "(each) => getComputedStyle(each).color"
    since = page.locator("input[name=since]")
    assert since.evaluate(color) == page.locator("body").evaluate(color)
    assert since.evaluate('(each) => getComputedStyle(each, "::placeholder").color') != since.evaluate(color)
    notice = page.locator("#clock")
    expect(notice).to_be_hidden()
    page.clock.set_fixed_time("2020-01-01T00:00:00Z")
    page.reload()
    expect(notice).to_contain_text("that of your browser differs")
