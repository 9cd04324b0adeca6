"""Which parts of an edited value differ from the former one."""

import pytest
from selectolax.lexbor import LexborHTMLParser

from stepstream.api.pages.parts.json_changes import json_changes
from stepstream.contract.codec import Json
from tests.api.pages.browsing import words


def shown(former: Json, value: Json) -> list[str]:
    """Return the changes as a reader sees them."""
    return [
        words(node).replace(" :", ":") for node in LexborHTMLParser(str(json_changes(former, value, "data"))).css("li")
    ]


@pytest.mark.parametrize(
    ("former", "value", "changes"),
    [
        (
            {"a": 246, "b": [1, {"c": "x"}]},
            {"a": 300, "b": [1, {"c": "y"}]},
            ["data.a: 246 → 300", 'data.b[1].c: "x" → "y"'],
        ),
        ({"a": 1}, {"a": True}, ["data.a: 1 → true"]),
        ({"a": None}, {"b": None}, ["data.a: null → (removed)", "data.b: (none) → null"]),
        ([1], [1, 2], ["data: [1] → [1, 2]"]),
        (5, {"a": 1}, ['data: 5 → {"a": 1}']),
        ({"a": 1}, {"a": 1}, []),
    ],
)
def test_changes_name_key_former_and_new_value(former: Json, value: Json, changes: list[str]) -> None:
    """Keys that are equal are left out; values of another type differ, although they are equal in Python."""
    assert shown(former, value) == changes


def test_changes_are_bounded_in_number_depth_and_length() -> None:
    """Many changes, deep values and long texts give a short list."""
    many = shown({}, {str(number): number for number in range(100)})
    assert (len(many), many[-1]) == (21, "more changes")
    deep: Json = "x" * 100_000
    for _ in range(60):
        deep = {"k": deep}
    (change,) = shown({"k": 1}, deep)
    assert len(change) < 300
    (change,) = shown({"a": "<b>"}, {"a": "x" * 100_000})
    assert change.startswith('data.a: "<b>" → "xxx')
    assert len(change) < 150
