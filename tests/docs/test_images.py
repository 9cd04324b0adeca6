"""The pictures of the documents: few bytes, and each is shown."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, PAGES

BYTES_MAX = 300_000
IMAGES = sorted((DOCS / "images").iterdir())


def test_pictures_are_small() -> None:
    """A clone has less than 300 kB of pictures."""
    assert IMAGES
    assert sum(each.stat().st_size for each in IMAGES) < BYTES_MAX


@pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.name)
def test_each_picture_is_shown(image: Path) -> None:
    """A document shows the picture, with a text for readers who do not see it."""
    shown = re.compile(rf"!\[[^\]]{{20,}}\]\((docs/)?images/{re.escape(image.name)}\)")
    assert [page.name for page in PAGES if shown.search(page.read_text("utf-8"))]
