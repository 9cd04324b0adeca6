"""A JSON value as a tree that opens without JavaScript; it is cut, so that a value of any size renders quickly."""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import htpy as h

from stepstream.api.pages.parts.components import text
from stepstream.contract.codec import Json
from stepstream.contract.text.wording import counted

CHILDREN_MAX = 200
CHARACTERS_MAX = 64 * 1024
_STRING_CHARACTERS_MAX = 4 * 1024
# Elements are rendered recursively.
LEVELS_MAX = 32
_OPEN_LEVELS = 2
_OPEN_CHILDREN_MAX = 20


@dataclass(slots=True)
class _Budget:
    """How many characters of a tree may still be rendered."""

    left: int = CHARACTERS_MAX


def json_tree(value: Json, label: str, raw_url: str) -> h.Element:
    """Return a value as a tree with links to its text; what exceeds the limits is replaced by a count."""
    budget = _Budget()
    links = h.span(".links")[
        h.a(href=raw_url)["raw"],
        h.a(href=f"{raw_url}&download=1", download=True)["download"],
        # The button appears once the script that serves it has loaded.
        h.button(".copy", type="button", hidden=True, data_copy=raw_url)["copy"],
    ]
    return h.div(".json", role="group", aria_label=label)[links, _node(value, budget, 0)]


def snippet(value: Json, characters_max: int = 80) -> str:
    """Return the beginning of a value as one line of JSON."""
    encoder = json.JSONEncoder(ensure_ascii=False)
    found = ""
    for part in encoder.iterencode(value):
        found += part[: characters_max + 1]
        if len(found) > characters_max:
            return found[:characters_max] + "…"
    return found


def _node(value: Json, budget: _Budget, level: int) -> h.Node:
    match value:
        case dict() if value:
            pairs = ((h.span(".key")[text(key)], ": ", item) for key, item in value.items())
            return _branch(f"{{{counted(len(value), 'key')}}}", pairs, len(value), budget, level)
        case list() if value:
            rows = ((h.span(".key")[str(index)], ": ", item) for index, item in enumerate(value))
            return _branch(f"[{counted(len(value), 'item')}]", rows, len(value), budget, level)
        case str():
            return _leaf("string", json.dumps(value[: _STRING_CHARACTERS_MAX + 1], ensure_ascii=False), value, budget)
        case _:
            return _leaf("scalar", json.dumps(value), None, budget)


def _leaf(kind: str, shown: str, whole: str | None, budget: _Budget) -> h.Element:
    budget.left -= len(shown)
    if whole is not None and len(whole) > _STRING_CHARACTERS_MAX:
        shown = f"{shown[:_STRING_CHARACTERS_MAX]}… ({len(whole):,} characters)"
    return h.span(f".{kind}")[text(shown, len(shown))]


def _branch(
    summary: str, rows: Iterator[tuple[h.Node, str, Json]], length: int, budget: _Budget, level: int
) -> h.Element:
    if level == LEVELS_MAX:
        return h.span(".more")[f"{summary}, nested deeper than {LEVELS_MAX} levels; open the raw value to see it"]
    items: list[h.Element] = []
    for key, colon, item in rows:
        if len(items) == CHILDREN_MAX or budget.left <= 0:
            items.append(h.li(".more")[f"{length - len(items):,} more; open the raw value to see all"])
            break
        budget.left -= len(colon) + 4
        items.append(h.li[key, colon, _node(item, budget, level + 1)])
    opened = level < _OPEN_LEVELS and length <= _OPEN_CHILDREN_MAX
    return h.details(open=opened)[h.summary[summary], h.ul[items]]
