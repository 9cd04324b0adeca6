"""A million runs: a reader finds one of them by what is known about it."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from stepstream.runtime.readmodel.index import RUNS_FILE
from tests.browser.conftest import Visit
from tests.browser.copies import copy_run
from tests.browser.shop import Shop

RUNS = 1_000_000


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Yield a shop whose list has a million copies of a run, each with its own id, event and order."""
    made = Shop(tmp_path_factory.mktemp("full"))
    made.start()
    run = made.show(made.started("order", {"id": "original", "total": -1}, "failed"))
    made.restart(lambda state: copy_run(state / RUNS_FILE, run["run_id"], RUNS - 1, run["started_at"], "order_id"))
    yield made
    made.end()


def test_a_run_is_found_among_a_million(visit: Visit, full: Shop) -> None:
    """A reader finds it by its order, by its event, and through a filter; each opens the one run."""
    page = visit(full.url)
    page.goto("/ui/runs")
    expect(page.locator(".tabs").first).to_contain_text(f"failed {RUNS:,}")
    search = page.get_by_role("searchbox", name="Find a run")
    search.fill("723456")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"/ui/runs/[0-9A-Z]{26}$"))
    found = page.url
    attributes = page.get_by_role("region", name="Attributes")
    expect(attributes).to_contain_text("723456")
    event = page.locator("main a[href*='/ui/event?']").first.inner_text()
    page.goto("/ui/runs")
    search.fill(event)
    page.keyboard.press("Enter")
    expect(page).to_have_url(found)
    page.goto("/ui/runs")
    page.get_by_label("Filter", exact=True).fill("order_id=723456 status:failed")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#runs tbody tr")).to_have_count(1)
    page.locator("#runs a.id").click()
    expect(page).to_have_url(found)
    # A value that no run has is reported as such.
    page.goto("/ui/runs?filter=order_id%3Dnone")
    expect(page.locator("main")).to_contain_text("No run matches this filter.")
    page.get_by_role("link", name="Show all runs").click()
    page.get_by_role("link", name="Older runs").click()
    expect(page.locator("#runs tbody tr")).to_have_count(50)
