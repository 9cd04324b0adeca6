"""Where readers start: a function that they start, an event that they send, the errors of the day, a thousand runs."""

import re

from playwright.sync_api import Page, expect

from tests.browser.shop import Shop
from tests.browser.watching import Watch
from tests.polling import until


def test_a_function_is_started_from_its_page(page: Page, shop: Shop, watch: Watch) -> None:
    """The form has the latest event as an example; what is wrong stays entered, and the run that starts is linked."""
    watch.expect("400")
    shop.waiting("order", {"id": "example", "total": 5}, "parcel")
    page.goto("/ui/functions")
    page.get_by_role("link", name="fulfil-order", exact=True).click()
    data = page.locator("#event-data")
    expect(data).to_have_value(re.compile('"total": 5'))
    data.fill('{"id": "started", "total": ')
    page.locator("form.actions").get_by_role("button").click()
    expect(data).to_have_attribute("aria-invalid", "true")
    data.fill('{"id": "started", "total": 9}')
    page.locator("form.actions").get_by_role("button").click()
    expect(page).to_have_url(re.compile("/ui/event"))
    # The list of what an event started is read again until the run is projected.
    until(lambda: shop.get("/v1/runs", filter="order_id=started")["runs"])
    page.reload()
    page.get_by_role("link", name=re.compile("^…")).first.click()
    expect(page.locator("main")).to_contain_text("receipt for 9")


def test_an_event_is_sent_from_its_page(page: Page, shop: Shop) -> None:
    """A reader sends the event that a run waits for, and finds the run that it resumed."""
    run_id = shop.waiting("order", {"id": "resumed", "total": 5}, "parcel")
    page.goto("/ui/events")
    page.get_by_text("Send an event", exact=True).click()
    page.locator("#event-name").fill("parcel")
    page.locator("#event-data").fill('{"id": "resumed"}')
    page.locator("form.actions").get_by_role("button").click()
    shop.until(run_id, "completed")
    page.reload()
    page.get_by_role("link", name=f"…{run_id[-6:]}").first.click()
    expect(page.locator(".heading .state")).to_have_text("completed")


def test_an_error_leads_to_its_runs(page: Page, shop: Shop) -> None:
    """Failures of one cause are one group, whatever their values; it leads to the runs that failed with it."""
    runs = {shop.started("order", {"id": f"group-{total}", "total": total}, "failed") for total in (-41, -42)}
    page.goto("/ui/errors")
    page.get_by_role("link", name=re.compile("ValueError: total -?# is negative")).first.click()
    expect(page).to_have_url(re.compile("error_group"))
    # The URL of a page is there before its rows.
    page.wait_for_load_state()
    shown = {(row.get_attribute("id") or "").removeprefix("run-") for row in page.locator("#runs tbody tr").all()}
    assert runs <= shown
