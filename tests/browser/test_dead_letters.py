"""Dead letters: a record that no shard can read is found with its reason and bytes, and sent again."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Visit
from tests.browser.shop import Shop
from tests.polling import until

UNREADABLE = b'{"name": "order", "data": <b>no JSON</b>'


@pytest.fixture
def broken(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Yield a shop whose log has a record that cannot be read."""
    made = Shop(tmp_path_factory.mktemp("broken"))
    made.start()
    made.append_unreadable(UNREADABLE)
    yield made
    made.end()


def test_a_dead_letter_is_redriven(visit: Visit, broken: Shop) -> None:
    """A reader finds it, reads why and what it is, and sends it again: it is marked, and what fails again is new."""
    page = visit(broken.url)
    page.goto("/ui/runs")
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Dead letters").click()
    rows = page.locator("main tbody tr")
    expect(rows).to_have_count(1)
    rows.get_by_role("link").click()
    expect(page.locator("main")).to_contain_text("events-0-")
    expect(page.get_by_label("Value", exact=True)).to_have_text(UNREADABLE.decode())
    page.get_by_role("button", name="Send the record again").click()
    expect(page.get_by_role("status").first).to_contain_text("The record was sent again.")
    # A reload repeats nothing, not even that sentence, and there is no second time.
    expect(page).to_have_url(re.compile(r"/dead-letter\?place=[0-9-]+$"))
    page.reload()
    expect(page.locator("main")).not_to_contain_text("The record was sent again.")
    expect(page.get_by_role("button", name="Send the record again")).to_have_count(0)
    until(lambda: len(broken.get("/v1/dead-letters")["dead_letters"]) == 2)
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Dead letters").click()
    expect(rows).to_have_count(2)
    expect(rows.nth(0).locator("td").last).to_be_empty()
    expect(rows.nth(1).locator("td").last).not_to_be_empty()
