"""The documents as tests read them: their code blocks as files."""

import re
from dataclasses import dataclass
from pathlib import Path

from tests.tidy_rules import ROOT

DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [
    README,
    ROOT / "CHANGELOG.md",
    ROOT / "deploy" / "README.md",
    ROOT / "topics" / "README.md",
    *sorted(DOCS.rglob("*.md")),
]
# What other pages import from there.
QUICKSTART = DOCS / "quickstart.md"
_BLOCK = re.compile(r"^( *)```(\w+)([^\n]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r'title="([^"]+)"')


@dataclass(frozen=True, slots=True)
class Block:
    """A code block of a page; `title` is the name of its file, if it has one."""

    language: str
    title: str
    text: str


def blocks(page: Path, language: str = "") -> list[Block]:
    """Return the code blocks of a page, of one language or all."""
    found = _BLOCK.findall(page.read_text("utf-8"))
    all_ = [
        Block(name, (_TITLE.search(rest) or ["", ""])[1], re.sub(rf"(?m)^{indent}", "", text))
        for indent, name, rest, text in found
    ]
    return [block for block in all_ if not language or block.language == language]


def files(page: Path) -> dict[str, str]:
    """Return the files that the blocks of a page make, name to text.

    Blocks of one title are one file, in their order. Python without a title belongs to the file of the page.
    """
    found: dict[str, list[str]] = {}
    for block in blocks(page):
        module = page.stem.lower().replace("-", "_")
        title = block.title or (f"{module}_page.py" if block.language == "python" else "")
        if title:
            found.setdefault(title, []).append(block.text)
    return {title: ("\n\n" if title.endswith(".py") else "").join(texts) for title, texts in found.items()}


def write_files(page: Path, folder: Path) -> list[str]:
    """Write the files of a page, and those of the quickstart that they import; return the names of the page's own."""
    own = files(page)
    for title, text in {**files(QUICKSTART), **own}.items():
        path = folder / title
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return list(own)
