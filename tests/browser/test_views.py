"""Saved views: filters under names, which the browser keeps."""

import re

from playwright.sync_api import Page, expect

from tests.browser.shop import Shop


def test_a_filter_is_saved_under_a_name(page: Page, shop: Shop) -> None:
    """It is a link on the list from then on, for this browser; a second one of the name replaces it."""
    shop.waiting("order", {"id": "view", "total": 5}, "parcel")
    views = page.get_by_role("navigation", name="Saved views")
    page.goto("/ui/runs")
    expect(views).to_be_hidden()
    for filter in ("function:write-report", "function:fulfil-order status:open"):
        page.goto("/ui/runs")
        page.get_by_label("Filter", exact=True).fill(filter)
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile("filter="))
        page.wait_for_load_state()
        views.get_by_label("Save this filter as").fill('<b>"mine"')
        page.keyboard.press("Enter")
        expect(views.get_by_role("link")).to_have_text(['<b>"mine"'])
    page.goto("/ui/runs")
    expect(views.get_by_label("Save this filter as")).to_be_hidden()
    views.get_by_role("link").click()
    expect(page.get_by_label("Filter", exact=True)).to_have_value("function:fulfil-order status:open")
    expect(views.get_by_role("link")).to_have_attribute("aria-current", "true")
    views.get_by_role("button", name="Remove the view").click()
    expect(views.get_by_role("link")).to_have_count(0)
    page.goto("/ui/runs")
    expect(views).to_be_hidden()


def test_other_content_of_the_storage_is_ignored(page: Page) -> None:
    """What another page or an earlier release stored leads to no error."""
    views = page.get_by_role("navigation", name="Saved views")
    for stored in ("{", '{"a": 1}', '[1, null, {"name": 1}, {"name": "one", "filter": "status:failed"}]'):
        page.goto("/ui/runs")
        page.evaluate("text => localStorage.setItem('stepstream.views', text)", stored)
        page.reload()
        expect(views.get_by_role("link")).to_have_count(1 if "one" in stored else 0)
