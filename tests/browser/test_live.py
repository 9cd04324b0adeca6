"""Open pages follow the engine: runs that proceed and end, new runs, and an engine that is killed and restarted."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Visit
from tests.browser.shop import Shop
from tests.browser.watching import Watch


def test_a_run_is_watched_to_its_end(page: Page, shop: Shop) -> None:
    """The page of a run shows each state by itself; what a reader opened stays open."""
    run_id = shop.waiting("order", {"id": "watched", "total": 5}, "parcel")
    page.goto(f"/ui/runs/{run_id}")
    page.get_by_role("link", name="charge", exact=True).click()
    expect(page.locator(".details")).to_contain_text("receipt for 5")
    loaded = page.evaluate("window.loaded = performance.timeOrigin")
    shop.order("parcel", {"id": "watched"})
    expect(page.locator(".heading .state")).to_have_text("completed")
    expect(page.locator(".why")).to_have_count(0)
    expect(page.get_by_role("group", name="Output")).to_contain_text("receipt for 5")
    expect(page.locator(".details")).to_contain_text("receipt for 5")
    # Nothing loaded the page again.
    assert page.evaluate("window.loaded") == loaded


def test_a_new_run_appears_in_the_list(page: Page, shop: Shop) -> None:
    """An event is sent while the list is open: its run appears, and its state changes, without a reload."""
    page.goto("/ui/runs?filter=function:fulfil-order")
    run_id = shop.waiting("order", {"id": "appears", "total": 5}, "parcel")
    row = page.locator(f"#run-{run_id}")
    expect(row).to_contain_text("waiting for event parcel")
    shop.order("parcel", {"id": "appears"})
    expect(row).to_contain_text("completed")


@pytest.fixture
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Yield a shop that a test may kill."""
    made = Shop(tmp_path_factory.mktemp("fragile"))
    made.start()
    yield made
    made.end()


def test_a_page_survives_the_end_of_its_engine(visit: Visit, fragile: Shop, watch: Watch) -> None:
    """While the engine is down the page says so; once it runs again, the page shows what happened, without a reload."""
    watch.expect(
        "ERR_CONNECTION_REFUSED", "ERR_INCOMPLETE_CHUNKED_ENCODING", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE"
    )
    run_id = fragile.waiting("order", {"id": "fragile", "total": 5}, "parcel")
    page = visit(fragile.url)
    page.goto(f"/ui/runs/{run_id}")
    expect(page.locator(".why")).to_contain_text("for the event")
    fragile.kill()
    expect(page.get_by_text("The engine does not answer")).to_be_visible()
    fragile.restart()
    fragile.order("parcel", {"id": "fragile"})
    expect(page.locator(".heading .state")).to_have_text("completed")
    expect(page.get_by_text("The engine does not answer")).to_be_hidden()
