"""Acting on many runs at once: the preview says on which, and the operation is watched to its end."""

import re

from playwright.sync_api import Page, expect

from tests.browser.shop import Shop

RUNS = 500


def test_500_runs_are_cancelled_after_a_preview(page: Page, shop: Shop) -> None:
    """A reader filters, sees how many runs that are and ten of them, gives a reason, and watches all be cancelled."""
    kept = shop.waiting("order", {"id": "kept", "total": 2}, "parcel")
    filter = "function:fulfil-order status:open total=1"
    shop.send_all([{"name": "order", "data": {"id": f"bulk-{number}", "total": 1}} for number in range(RUNS)])
    shop.until_listed(filter, RUNS)
    page.goto("/ui/runs")
    page.get_by_label("Filter", exact=True).fill(filter)
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("link", name="Cancel all of these runs").click()
    expect(page.locator("main tbody tr")).to_have_count(10)
    expect(page.locator("main")).to_contain_text(f"{RUNS - 10} more")
    # The preview changes nothing.
    assert shop.get("/v1/runs", filter="status:cancelled")["runs"] == []
    page.get_by_label("Reason", exact=True).fill("sent twice")
    page.get_by_role("button", name=f"Cancel {RUNS} runs").click()
    expect(page).to_have_url(re.compile("/ui/bulk/"))
    # The page loads itself again until the operation has ended.
    expect(page.locator("main")).to_contain_text(f"{RUNS} cancelled")
    expect(page.locator("main .state").first).to_have_text("completed")
    expect(page.locator("main")).to_contain_text("sent twice")
    page.get_by_role("link", name="All bulk operations").click()
    expect(page.locator("main tbody tr")).to_have_count(1)
    page.goto("/ui/runs?filter=status:cancelled")
    expect(page.locator(".tabs [aria-current]")).to_contain_text(f"{RUNS}")
    assert shop.show(kept)["status"] == "running"
