"""The page of a run: its timeline, steps that open, values, errors, relations and actions."""

import json
import re
from pathlib import Path

from playwright.sync_api import Page, expect

from tests.browser.shop import Shop
from tests.browser.watching import Watch


def test_steps_open_below_their_rows(page: Page, shop: Shop) -> None:
    """A step opens by a click, stays open when the page is read again, and its URL opens it for others."""
    run_id = shop.waiting("order", {"id": "steps", "total": 5}, "parcel")
    page.goto(f"/ui/runs/{run_id}")
    expect(page.locator(".why")).to_contain_text("for the event 'parcel'")
    expect(page.locator(".timeline svg")).to_have_count(2)
    page.get_by_role("link", name="charge", exact=True).click()
    expect(page.locator(".details")).to_contain_text("receipt for 5")
    page.get_by_role("link", name="parcel", exact=True).click()
    expect(page.locator(".details")).to_have_count(2)
    page.reload()
    expect(page.locator(".details")).to_have_count(2)
    page.get_by_role("link", name="charge", exact=True).click()
    expect(page.locator(".details")).to_have_count(1)
    expect(page.locator(".details")).to_contain_text("parcel")


def test_a_cancelled_run_says_so(page: Page, shop: Shop) -> None:
    """The button cancels an open run; the page reports it, and has no such button any longer."""
    run_id = shop.waiting("order", {"id": "cancel", "total": 5}, "parcel")
    page.goto(f"/ui/runs/{run_id}")
    page.get_by_role("button", name="Cancel the run").click()
    expect(page.get_by_role("status").first).to_have_text("The run is cancelled.")
    shop.until(run_id, "cancelled")
    page.goto(f"/ui/runs/{run_id}")
    expect(page.locator(".heading .state")).to_have_text("cancelled")
    expect(page.get_by_role("button", name="Cancel the run")).to_have_count(0)


def test_an_error_shows_its_line_and_traceback(page: Page, shop: Shop) -> None:
    """A failed run shows the message, the line of the app that raised it, and a traceback that closes."""
    run_id = shop.started("order", {"id": "error", "total": -3}, "failed")
    page.goto(f"/ui/runs/{run_id}")
    failure = page.locator(".failure").first
    expect(failure.locator(".message")).to_have_text("ValueError: total -3 is negative")
    expect(failure.locator(".place")).to_have_text(re.compile(r"raised at .*shop\.py:\d+"))
    expect(failure.locator("pre")).to_contain_text('raise ValueError(f"total')
    failure.get_by_text("Traceback", exact=True).click()
    expect(failure.locator("pre")).to_be_hidden()


def test_a_value_can_be_copied_and_saved(page: Page, shop: Shop, watch: Watch) -> None:
    """The tree of a value opens; its whole text is copied, shown raw, and downloaded."""
    # Browsers ask for it beside a text, which cannot name another one.
    watch.expect("favicon.ico")
    run_id = shop.waiting("order", {"id": "value", "total": 5}, "parcel")
    shop.order("parcel", {"id": "value", "weight": 1.5})
    shop.until(run_id, "completed")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.goto(f"/ui/runs/{run_id}")
    tree = page.get_by_role("group", name="Output")
    expect(tree.get_by_text('"sku-0"')).to_be_hidden()
    tree.get_by_text("{1 key}").first.click()
    expect(tree.get_by_text('"sku-0"')).to_be_visible()
    tree.get_by_role("button", name="copy").click()
    expect(tree.get_by_role("button", name="copied")).to_be_visible()
    copied = json.loads(page.evaluate("navigator.clipboard.readText()"))
    assert copied["receipt"] == "receipt for 5"
    with page.expect_download() as download:
        tree.get_by_role("link", name="download").click()
    assert json.loads(Path(download.value.path()).read_text("utf-8")) == copied
    tree.get_by_role("link", name="raw").click()
    expect(page).to_have_url(re.compile("/raw"))
    assert json.loads(page.locator("pre").inner_text()) == copied


def test_invoked_runs_are_linked_both_ways(page: Page, shop: Shop) -> None:
    """A reader goes from the step to the run that it invoked, and from there to the caller."""
    run_id = shop.waiting("call", {"id": "linked"}, "answer")
    page.goto(f"/ui/runs/{run_id}")
    expect(page.locator(".why")).to_contain_text("for the run of 'answer'")
    page.get_by_role("link", name="answer", exact=True).click()
    page.locator(".details").get_by_role("link", name="…").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("answer")
    page.get_by_role("link", name=run_id, exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("call")


def test_a_loop_of_1000_steps_opens(page: Page, shop: Shop) -> None:
    """A loop is one row; opened it has a row for each step, and the keys move the timeline through its time."""
    run_id = shop.started("report", {"pages": 1_000})
    page.goto(f"/ui/runs/{run_id}")
    rows = page.locator(".timeline tbody tr")
    expect(rows).to_have_count(1)
    page.get_by_role("link", name="page 0…999").click()
    expect(rows).to_have_count(1_001)
    page.get_by_role("link", name="Zoom in").click()
    expect(page).to_have_url(re.compile("from=.*to="))
    page.wait_for_load_state()
    before = page.url
    page.keyboard.press("]")
    expect(page).not_to_have_url(before)
    expect(rows).to_have_count(1_001)
