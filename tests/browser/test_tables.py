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


pytestmark = pytest.mark.usefixtures("filled")


@pytest.fixture(scope="module")
def filled(shop: Shop) -> None:
    """Have a run fail with a long error, and another one wait for a limit."""
    shop.started("echo", {"text": "it could not be said in a few words " * 9, "fails": True}, "failed")
    shop.waiting("export", {"id": "first", "text": "begins"}, "night")
    shop.started("export", {"id": "second"}, "queued")


@pytest.mark.parametrize("path", ["/ui/runs", "/ui/errors", "/ui/waiting?kind=queued"])
def test_names_stay_on_one_line(page: Page, path: str) -> None:
    """Neither an id nor the name of a function, a step or an event is broken."""
    page.set_viewport_size({"width": 1280, "height": 800})
    page.goto(path)
    assert page.locator(NAMES).count()
    assert page.evaluate(BROKEN) == []


CARDS = ("functions", "performance", "workers", "errors", "runs", "events")


@pytest.mark.parametrize("path", [f"/ui/{name}" for name in CARDS])
def test_rows_are_cards_on_a_phone(page: Page, path: str) -> None:
    """No column is cut off, and values have labels instead of headings."""
    page.set_viewport_size({"width": 390, "height": 800})
    page.goto(path)
    assert page.evaluate(CUT) == []
    assert overflow(page) == [0, []]
    assert len(page.evaluate(LABEL)) > len('" "')
