"""The documents: what they link to exists, what they name is in the code, and their numbers are those of the code."""

import ast
import functools
import re
from pathlib import Path

import pytest

from stepstream.contract import limits
from tests.markdown import table_rows
from tests.tidy_rules import PRODUCT, ROOT

DOCUMENTS = [ROOT / "README.md", ROOT / "deploy" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
GUARANTEES = (ROOT / "docs" / "guarantees.md").read_text("utf-8")
LINK = re.compile(r"\[([^\]\n]+)\]\((?!https?:)([^)#\s]+)[^)]*\)")
PLACE = re.compile(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)")


@functools.cache
def functions_of(path: Path) -> set[str]:
    """Return the names of the functions that a test file defines."""
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    """Every link within the repository leads to a file, and one named after a test to a file that has it."""
    for name, target in LINK.findall(document.read_text("utf-8")):
        path = (document.parent / target).resolve()
        assert path.exists(), f"{target} is not there"
        assert not name.startswith("test_") or name in functions_of(path), f"{target} has no {name}"


def places_in(document: Path) -> set[str]:
    """Return the names by which the headings of a document are linked to."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_to_a_heading_find_it(document: Path) -> None:
    """A link to a place in a document, be it the same one, names a heading that is there."""
    for target, place in PLACE.findall(document.read_text("utf-8")):
        path = (document.parent / target).resolve() if target else document
        assert place in places_in(path), f"{path.name} has no heading for #{place}"


def test_every_guarantee_is_shown_by_a_test() -> None:
    """Each line of a table of guarantees links to at least one test."""
    rows = table_rows(GUARANTEES)
    assert len(rows) > 30
    for row in rows:
        assert "(../tests/" in row[-1], f"nothing shows that {row[0]}"


def test_the_limits_are_those_of_the_code() -> None:
    """Each default in docs/guarantees.md is the number in contract/limits.py, and no setting is left out."""
    stated = {row[0].strip("`"): int(row[1].replace(",", "")) for row in table_rows(GUARANTEES) if len(row) == 4}
    settings = {name: getattr(limits.DEFAULT_LIMITS, name) for name in limits.Limits.__dataclass_fields__}
    constants = {name: getattr(limits, name) for name in stated if name.isupper()}
    assert stated == settings | constants


def test_the_words_of_the_glossary_are_in_the_code() -> None:
    """What the glossary names in its last column is found in the code as that very word."""
    sources = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / PRODUCT).rglob("*.py")))
    rows = table_rows((ROOT / "docs" / "glossary.md").read_text("utf-8"))
    assert len(rows) > 40
    words = [word for row in rows for word in re.findall(r"`(\w+)`", row[-1])]
    assert not [word for word in words if not re.search(rf"\b{word}\b", sources)]
    assert len({row[0] for row in rows}) == len(rows), "a word has two lines"
