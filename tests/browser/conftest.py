"""Chromium and a `stepstream dev` for the flows; all are marked long, because only `make test-long` installs them."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser.shop import Shop
from tests.browser.watching import Watch

HERE = Path(__file__).parent
# A bound on conditions that never hold; no flow depends on the speed of the machine.
WAIT_MS_MAX = 60_000
REMEDY = (
    "there is no Chromium: install it by `apt-get update && apt-get install chromium`, "
    "or set CHROMIUM to the path of a Chromium or Chrome"
)
NAMES = ("chromium", "chromium-browser", "google-chrome")
Visit = Callable[..., Page]

expect.set_options(timeout=WAIT_MS_MAX)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of this folder, before -m selects."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.long)


def find_chromium() -> str:
    """Return the path of the browser; a missing one is an error, so that no flow is left out unnoticed."""
    found = os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)
    assert found, REMEDY
    return found


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Yield the browser.

    Its event loop runs in this thread until the end of the module, so a module of flows has no asynchronous tests.
    """
    with sync_playwright() as playwright:
        # The memory that browsers share is small in containers.
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=["--disable-dev-shm-usage"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """Yield a process that the flows of a module share; each sends its own events."""
    made = Shop(tmp_path_factory.mktemp("shop"))
    made.start()
    yield made
    made.end()


@pytest.fixture
def watch() -> Watch:
    """Return what the browser reports in this test."""
    return Watch()


@pytest.fixture
def visit(chromium: Browser, watch: Watch) -> Iterator[Visit]:
    """Yield a function that opens a window of a new visitor: `visit(shop.url, color_scheme="dark")`.

    The test fails if a window reports a violation of the policy, an error or a failed request.
    """
    opened: list[BrowserContext] = []

    def open_window(url: str, **options: Any) -> Page:
        context = chromium.new_context(base_url=url, **options)
        context.set_default_timeout(WAIT_MS_MAX)
        watch.observe(context)
        opened.append(context)
        return context.new_page()

    yield open_window
    for context in opened:
        context.close()
    assert watch.faults() == []


@pytest.fixture
def page(visit: Visit, shop: Shop) -> Page:
    """Return a window of a visitor of the shop."""
    return visit(shop.url)
