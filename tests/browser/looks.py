"""Whether a page can be read on a phone and on a desktop, in the light and in the dark, by assistive technology too."""

from itertools import product
from typing import Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

WIDTHS = (1280, 390)
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def check_every_look(page: Page) -> None:
    """Fail if the open page is wider than a window, or if axe finds a violation."""
    for width, scheme in product(WIDTHS, SCHEMES):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        assert (width, overflow(page)) == (width, [0, []])
        found = Axe().run(page).response["violations"]
        faults = [(each["id"], [node["html"][:300] for node in each["nodes"][:5]]) for each in found]
        assert (width, scheme, faults) == (width, scheme, [])


def overflow(page: Page) -> object:
    """Return how many pixels a page is wider than its window, and the elements that stick out."""
    return page.evaluate(
        """() => {
          const width = document.documentElement.clientWidth;
          const clipped = (each) => each.closest(".scroll, .skip, pre, thead, dialog") !== null;
          const wide = [...document.querySelectorAll("body *")].filter(
            (each) => each.getBoundingClientRect().right > width + 1 && !clipped(each));
          const found = wide.slice(0, 5).map((each) => each.outerHTML.slice(0, 200));
          return [document.documentElement.scrollWidth - width, found];
        }"""
    )
