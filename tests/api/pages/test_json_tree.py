"""JSON trees: what they show, and where they are cut."""

import pytest
from selectolax.lexbor import LexborHTMLParser

from stepstream.api.pages.parts.json_tree import CHARACTERS_MAX, CHILDREN_MAX, LEVELS_MAX, json_tree, snippet
from stepstream.contract.codec import Json
from tests.api.pages.browsing import words


def tree_of(value: Json) -> LexborHTMLParser:
    """Return the parsed tree of a value."""
    return LexborHTMLParser(str(json_tree(value, "a value", "/raw?part=x")))


def test_tree_shows_a_value() -> None:
    """Objects and arrays open, and scalars are JSON."""
    shown = words(tree_of({"a": [1, None, True, "é\n"], "b": {}, "c": 1.5}).css_first(".json > details"))
    assert shown == '{3 keys} a : [4 items] 0 : 1 1 : null 2 : true 3 : "é\\n" b : {} c : 1.5'


@pytest.mark.parametrize("value", [[0] * 100_000, {str(number): number for number in range(100_000)}])
def test_tree_has_at_most_200_children(value: Json) -> None:
    """A long array or object is cut after 200 children, and says how many are left."""
    tree = tree_of(value)
    assert len(tree.css("li")) == CHILDREN_MAX + 1
    assert "99,800 more; open the raw value to see all" in words(tree.css_first(".more"))


def test_tree_is_cut_at_64_kib() -> None:
    """A tree of a large value is about as large as a tree of 64 KiB."""
    value: Json = [[{"key": "x" * 3_000}] * 100] * 100
    assert len(str(json_tree(value, "a value", ""))) < 4 * CHARACTERS_MAX
    huge = words(tree_of("x" * 4 * 1024 * 1024).css_first(".json"))
    assert len(huge) < 5_000
    assert "(4,194,304 characters)" in huge


def test_deep_value_is_cut() -> None:
    """A value may be nested as deeply as JSON of an event allows; the tree shows its first 32 levels."""
    value: Json = 1
    for _ in range(110):
        value = [value]
    tree = tree_of(value)
    assert len(tree.css("details")) == LEVELS_MAX
    assert "nested deeper than 32 levels" in words(tree.css_first(".more"))


@pytest.mark.parametrize(
    ("value", "shown"),
    [({"a": 1}, '{"a": 1}'), ("x" * 100, '"' + "x" * 9 + "…"), ([1] * 1_000_000, "[1, 1, 1, …"), (None, "null")],
)
def test_snippet_is_the_beginning_of_a_value(value: Json, shown: str) -> None:
    """A snippet is one line of JSON, cut."""
    assert snippet(value, 10) == shown
