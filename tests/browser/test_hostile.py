"""Hostile text, as users and their code can store it, stays text in a real browser."""

import pytest
from playwright.sync_api import Page, expect

from tests.browser.shop import Shop
from tests.browser.watching import Watch

HOSTILE = {
    "image": "<img src=x onerror=alert(1)>",
    "script": '"><script>alert(1)</script>',
    "quotes": "' onfocus='alert(1)' autofocus='",
    "url": "javascript:alert(1)",
    "terminal": "\x1b[31mred\x1b]8;;http://evil.example\x07",
    "marks": "\u202eevil\u2066\u200f",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_does_nothing(page: Page, shop: Shop, watch: Watch, name: str) -> None:
    """It is read and searched in each place where a run shows it: no script runs, and nothing else is requested."""
    text = HOSTILE[name]
    # A raw value is a text, for which browsers ask for a picture.
    watch.expect("favicon.ico")
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    run_id = shop.started("echo", {"text": text, "fails": True, text: {text: [text]}}, "failed")
    steps = "&".join(f"step={each['step']}" for each in shop.show(run_id)["steps"])
    for path in ("/ui/runs", "/ui/errors", f"/ui/runs/{run_id}?{steps}", f"/ui/runs/{run_id}/raw?part=event-0"):
        page.goto(path)
        if "/raw" not in path:
            expect(page.locator("main")).to_be_visible()
            assert page.locator("main :is(img, iframe, script, object, base)").count() == 0
            assert page.locator(":is([onerror], [onfocus], [autofocus])").count() == 0
    page.goto("/ui/runs")
    page.get_by_role("searchbox", name="Find a run").fill(text)
    page.keyboard.press("Enter")
    expect(page.get_by_label("Filter", exact=True).or_(page.locator(".heading"))).to_be_visible()
    assert [url for url in requested if not url.startswith((shop.url, "data:,"))] == []
