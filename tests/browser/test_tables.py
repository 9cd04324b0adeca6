"""Tables: names stay on one line on a desktop, and rows are cards with labels on a phone."""

import pytest
from playwright.sync_api import Page

from tests.browser.looks import overflow
from tests.browser.shop import Shop

NAMES = "td > a.id, td > bdi:not(.long), td:not(.error) > a > bdi:not(.long)"
BROKEN = f"""() => [...document.querySelectorAll("{NAMES}")]
  .filter((each) => each.getClientRects().length > 1).map((each) => each.textContent)"""
CUT = """() => [...document.querySelectorAll("main .scroll")]
  .filter((each) => each.scrollWidth > each.clientWidth + 1).map((each) => each.ariaLabel)"""
LABEL = 'getComputedStyle(document.querySelector("td[data-label]"), "::before").content'


@pytest.fixture
def filled(shop: Shop) -> Shop:
    """Return a shop in which a run failed with a long error, and another one waits."""
    shop.started("echo", {"text": "it could not be said in a few words " * 9, "fails": True}, "failed")
    return shop


@pytest.mark.parametrize("path", ["/ui/runs", "/ui/errors", "/ui/waiting?kind=queued"])
def test_names_stay_on_one_line(page: Page, filled: Shop, path: str) -> None:
    """Neither an id nor the name of a function, a step or an event is broken."""
    assert filled.url
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(path)
    assert page.evaluate(BROKEN) == []


@pytest.mark.parametrize("path", ["/ui/functions", "/ui/performance", "/ui/workers", "/ui/errors"])
def test_rows_are_cards_on_a_phone(page: Page, filled: Shop, path: str) -> None:
    """No column is cut off, and values have labels instead of headings."""
    assert filled.url
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(path)
    assert page.evaluate(CUT) == []
    assert overflow(page) == [0, []]
    assert len(page.evaluate(LABEL)) > len('" "')
