"""The documents: what they link to exists, what they name is in the code, and their numbers are those of the code."""

import ast
import functools
import re
from pathlib import Path

import pytest

from stepstream.contract import limits
from stepstream.contract.kinds import StepKind
from stepstream.engine.state.rows import TimerKind
from tests.docs.pages import DOCS, PAGES
from tests.markdown import table_rows
from tests.tidy_rules import PRODUCT, ROOT

GUARANTEES = (DOCS / "guarantees.md").read_text("utf-8")
LINK = re.compile(r"\[([^\]\n]+)\]\((?!https?:)([^)#\s]+)[^)]*\)")
PLACE = re.compile(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)")


@functools.cache
def functions_of(path: Path) -> set[str]:
    """Return the names of the functions that a test file defines."""
    tree = ast.parse(path.read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    """Every link within the repository leads to a file, and one named after a test to a file that has it."""
    for name, target in LINK.findall(document.read_text("utf-8")):
        path = (document.parent / target).resolve()
        assert path.exists(), f"{target} does not exist"
        assert not name.startswith("test_") or name in functions_of(path), f"{target} has no {name}"


def places_in(document: Path) -> set[str]:
    """Return the names by which the headings of a document are linked to."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", PAGES, ids=lambda path: path.name)
def test_links_to_a_heading_find_it(document: Path) -> None:
    """A link to a place in a document, names an existing heading."""
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
    rows = table_rows((DOCS / "glossary.md").read_text("utf-8"))
    assert len(rows) > 40
    words = [word for row in rows for word in re.findall(r"`(\w+)`", row[-1])]
    assert not [word for word in words if not re.search(rf"\b{word}\b", sources)]
    assert len({row[0] for row in rows}) == len(rows), "a word has two lines"


def test_kinds_in_metrics_are_those_of_the_code() -> None:
    """The values of the label `kind` in docs/metrics.md are the kinds of timers and steps that the engine has."""
    rows = {row[0].strip("`"): row[2] for row in table_rows((DOCS / "metrics.md").read_text("utf-8"))}
    for metric, kinds in (("timer_late_seconds", TimerKind), ("steps_ended_total", StepKind)):
        (listed,) = re.findall(r"`kind` \(([^)]*)\)", rows[f"stepstream_{metric}"])
        assert set(listed.split(", ")) == {str(kind) for kind in kinds}


def test_runbook_has_every_alert() -> None:
    """Each alert leads to a section of docs/runbook.md, and the runbook names no other."""
    alerts = set(re.findall(r"alert: (\w+)", (ROOT / "deploy" / "prometheus" / "alerts.yml").read_text("utf-8")))
    rows = [row for row in table_rows((DOCS / "runbook.md").read_text("utf-8")) if "Stepstream" in row[0]]
    assert {name for row in rows for name in re.findall(r"`(Stepstream\w+)`", row[0])} == alerts


def test_runbook_quotes_messages_of_the_code() -> None:
    """Each message in the tables of docs/runbook.md is in the code, else update the runbook; `…` may be anything."""
    # Texts that wrap over two literals are one; what is filled in may be anything.
    sources = "\n".join(path.read_text("utf-8") for path in sorted((ROOT / PRODUCT).rglob("*.py")))
    sources = re.sub(r'"\s*\n?\s*f?"', "", sources)
    tables = (DOCS / "runbook.md").read_text("utf-8").split("| log line |")[1:]
    tables += (DOCS / "runbook.md").read_text("utf-8").split("| reason or log line |")[1:]
    quoted = [row[0] for table in tables for row in table_rows(table.partition("\n\n")[0])]
    messages = [message for cell in quoted for message in re.findall(r"`([^`]+)`", cell)]
    assert len(messages) >= 6
    for message in messages:
        parts = map(re.escape, message.split("…"))
        assert re.search(r"[^\n]{1,60}?".join(parts), sources), f"no code logs {message!r}"
