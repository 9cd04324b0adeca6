"""Markdown as far as tests read it."""

import re


def table_rows(text: str) -> list[list[str]]:
    """Return the cells of all rows of all tables in a document, without heads."""
    lines = text.splitlines()
    rows = [line for line, following in zip(lines, [*lines[1:], ""], strict=True) if not following.startswith("| ---")]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows if re.match(r"\| (?!---)", row)]
