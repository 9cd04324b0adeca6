"""Expressions: their results, how they are frozen, and that none can block a shard."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepstream.contract.codec import Json
from stepstream.expressions.predicates import (
    MISSING,
    Equality,
    EvaluationError,
    ExpressionError,
    Frozen,
    check,
    check_path,
    freeze,
    freeze_match,
    holds,
    index_key,
    lookup,
)

EVENT: dict[str, Json] = {
    "name": "shop/order",
    "ts": 5,
    "data": {
        "total": 3,
        "rate": 3.0,
        "text": "abc",
        "list": [1, 2, 3],
        "flag": True,
        "nothing": None,
        "map": {"k": "v"},
    },
}


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('event.data.total > 0 && event.data.text == "abc"', True),
        ("event.data.total == event.data.rate", True),
        ("event.data.total == true", False),
        ('event.data.total == "3"', False),
        ("event.data.missing > 0 || true", True),
        ("false && event.data.missing > 0", False),
        ("event.data.missing > 0 && false", False),
        ("has(event.data.missing)", False),
        ("has(event.data.nothing)", True),
        ("event.data.list.exists(e, e == 2)", True),
        ("event.data.list.all(e, e > 1)", False),
        ("event.data.list.exists_one(e, e > 2)", True),
        ("event.data.list.map(e, e * 2)[2] == 6", True),
        ("event.data.list.filter(e, e > 1).size() == 2", True),
        ("size(event.data.text) == 3", True),
        ('event.data.text.startsWith("a") && event.data.text.endsWith("c") && event.data.text.contains("b")', True),
        ('event.data.text.matches("^a.c$")', True),
        ("event.data.total in [1, 3]", True),
        ('"k" in event.data.map', True),
        ('event.data["text"] == "abc" ? event.data.flag : false', True),
        ("!event.data.flag", False),
        ("-event.data.total < 0", True),
        ("event.data.total % 2 == 1", True),
        ("// a comment\n event.ts == 5", True),
        ("'async event' == 'async event'", True),
    ],
)
def test_expressions_mean_what_cel_says(source: str, expected: bool) -> None:
    """Literals, fields, operators, macros and functions follow the language definition of CEL."""
    assert holds(source, {"event": EVENT}) is expected


@pytest.mark.parametrize(
    "source",
    ["event.data.missing > 0", "event.data.text > 1", "event.data.total", "event.data.list[9] == 1", "1 / 0 == 1"],
)
def test_an_evaluation_without_a_result_is_an_error(source: str) -> None:
    """A missing field, types that do not fit, and a result that is not a bool raise EvaluationError."""
    with pytest.raises(EvaluationError):
        holds(source, {"event": EVENT})


@pytest.mark.parametrize(
    ("source", "line", "column", "word"),
    [
        ("event.data.x ==", 1, 16, "ends"),
        ("foo.x == 1", 1, 1, "unknown"),
        ("event.data.x = 1", 1, 14, "=="),
        ("event.ts == 1 &&\n  nope(1)", 2, 3, "nope"),
        ("", 1, 1, "empty"),
        ('event.data.x.matches("(")', 1, 14, "pattern"),
    ],
)
def test_an_invalid_expression_has_a_position_and_a_reason(source: str, line: int, column: int, word: str) -> None:
    """An ExpressionError has line, column and a reason with the remedy."""
    with pytest.raises(ExpressionError) as caught:
        check(source, frozenset({"event"}))
    assert (caught.value.line, caught.value.column) == (line, column)
    assert word in caught.value.reason


@pytest.mark.parametrize(
    "source",
    [
        "(" * 200 + "true" + ")" * 200,
        " + ".join(["1"] * 2_000) + " == 1",
        "x" * 5_000,
        "event.l.all(a, event.l.all(b, event.l.all(c, a == b)))",
        "!" * 3_000 + "true",
        '"a" + ' * 600 + '"a" == "a"',
    ],
)
def test_an_expression_beyond_the_bounds_is_refused(source: str) -> None:
    """Size, depth and nesting of macros are bounded before anything runs."""
    with pytest.raises(ExpressionError):
        check(source, frozenset({"event"}))


@pytest.mark.parametrize(
    "source",
    [
        "event.l.all(a, event.l.all(b, a + b >= 0))",
        "event.l.map(a, event.l.map(b, b)).size() == 1",
        'event.l.all(a, !event.t.matches("(a|aa)+b"))',
        "event.l.map(a, event.t + event.t + event.t).size() == 1",
    ],
)
def test_an_evaluation_over_its_budget_is_an_error(source: str) -> None:
    """No expression takes more than its budget of work, whatever the event."""
    event: dict[str, Json] = {"l": list(range(5_000)), "t": "a" * 50_000}
    with pytest.raises(EvaluationError):
        holds(source, {"event": event})


def test_freezing_extracts_equalities_and_prunes_bindings() -> None:
    """Equality conjuncts on `async` become index entries; the residual keeps only what it needs of the event."""
    source = "async.data.t == event.data.text && async.data.d >= 60 && async.ts < event.data.total && event.ts == 5"
    frozen = freeze(source, EVENT)
    assert frozen.equalities == (Equality("data.t", "abc"),)
    assert frozen.residual == "(async.data.d >= 60) && (async.ts < event.data.total)"
    assert frozen.bindings == {"event": {"data": {"total": 3}}}


@pytest.mark.parametrize(
    "source",
    [
        "async.a == event.data.missing",
        "event.ts == 6 && async.a == 1",
        "event.no == 1",
    ],
)
def test_freezing_finds_conditions_that_never_hold(source: str) -> None:
    """A missing field of the run's own event, or a conjunct on it alone that is false, never matches."""
    assert freeze(source, EVENT).never


@pytest.mark.parametrize("null", ["null", "event.data.nothing"])
@pytest.mark.parametrize("form", ["async.data.x == {}", "{} == async.data.x", "async.data.x == {} || false"])
@pytest.mark.parametrize(
    ("data", "expected"), [({"x": None}, True), ({"x": 0}, False), ({"x": "null"}, False), ({}, False)], ids=str
)
def test_null_equals_null_in_every_form(null: str, form: str, data: Json, expected: bool) -> None:
    """A wait compares with null as a trigger does, alone or in a larger expression."""
    source = form.format(null)
    candidate: dict[str, Any] = {"data": data}
    assert _answer(source, {"event": EVENT, "async": candidate}) is expected
    assert _matches(freeze(source, EVENT), candidate) is expected


def test_match_compares_one_path_of_both_events() -> None:
    """match= is an equality; a path that is missing or null in the run's own event never matches."""
    assert freeze_match("data.text", EVENT).equalities == (Equality("data.text", "abc"),)
    assert freeze_match("data.nothing", EVENT).never
    assert freeze_match("data.missing", EVENT).never
    whole = freeze_match("data.list", EVENT)
    assert whole.residual
    assert holds(whole.residual, {**whole.bindings, "async": {"data": {"list": [1, 2, 3]}}})


_UNINDEXED: list[Json] = [None, [], {}, float("nan")]


def test_index_keys_follow_equality() -> None:
    """1 and 1.0 share a key; true, 1 and "1" do not; null, lists and maps have none."""
    assert index_key(1) == index_key(1.0) == index_key(True + 0)
    assert index_key(0) == index_key(-0.0)
    assert len({index_key(value) for value in (True, 1, "1", "true", 1.5)}) == 5
    assert [index_key(value) for value in _UNINDEXED] == [None] * 4


@pytest.mark.parametrize("path", ["", ".", "a..b", "a.", "a b", "a[0]", "x" * 300, ".".join("a" * 40)])
def test_an_invalid_path_is_refused(path: str) -> None:
    """match= takes a dotted path within bounds."""
    with pytest.raises(ExpressionError):
        check_path(path)


@pytest.mark.parametrize("path", ["order_id", "order.id", "Data.id"])
def test_a_path_that_no_event_can_have_is_refused(path: str) -> None:
    """match="order_id" would never match: the error lists the fields of an event, and what was probably meant."""
    with pytest.raises(ExpressionError, match=rf"name, data, id, .* is data\.{path.split('.')[0]} meant"):
        check_path(path)


@pytest.mark.parametrize("source", ["event.total > 1", "event.id == async.data.id && async['total'] == 1"])
def test_a_field_that_no_event_has_is_refused(source: str) -> None:
    """The condition would never hold; the fields below `data` and `user` are the user's own."""
    with pytest.raises(ExpressionError, match=r"is (event|async)\.data\.total meant") as refused:
        check(source, frozenset({"event", "async"}))
    assert source[refused.value.column - 1 :].startswith(("event.total", "async['total']"))
    check("event.data.total > 1 && has(async.user.name)", frozenset({"event", "async"}))


def test_lookup_goes_through_objects_only() -> None:
    """A path that leads nowhere is MISSING; null is a value."""
    assert lookup(EVENT, "data.map.k") == "v"
    assert lookup(EVENT, "data.nothing") is None
    assert lookup(EVENT, "data.text.length") is MISSING


_SCALARS = st.sampled_from([0, 1, 1.0, 2, -1.5, "a", "b", "", True, False, None])
_FIELDS = st.sampled_from(["x", "y", "z"])
_DATA = st.dictionaries(_FIELDS, _SCALARS)


@st.composite
def _conjuncts(draw: st.DrawFn) -> str:
    operand = st.one_of(
        st.builds("event.{}".format, _FIELDS),
        st.builds("async.{}".format, _FIELDS),
        st.sampled_from(["1", "1.0", '"a"', "true", "null", "-1.5"]),
    )
    relation = st.sampled_from(["==", "!=", "<", ">="])
    parts = draw(st.lists(st.builds("{} {} {}".format, operand, relation, operand), min_size=1, max_size=4))
    return draw(st.sampled_from([" && ", " || "])).join(parts)


def _matches(frozen: Frozen, candidate: dict[str, Any]) -> bool:
    if frozen.never:
        return False
    if any(index_key(lookup(candidate, each.path)) != index_key(each.value) for each in frozen.equalities):
        return False
    if frozen.residual is None:
        return True
    return _answer(frozen.residual, {**frozen.bindings, "async": candidate})


def _answer(source: str, bindings: dict[str, Any]) -> bool:
    try:
        return holds(source, bindings)
    except EvaluationError:
        return False


@given(_conjuncts(), _DATA, _DATA)
def test_freezing_changes_no_result(source: str, event: dict[str, Any], candidate: dict[str, Any]) -> None:
    """A frozen predicate matches exactly the events for which the whole expression holds; an error is no match."""
    direct = _answer(source, {"event": event, "async": candidate})
    assert _matches(freeze(source, event), candidate) == direct
