"""The filter of runs: it is printed as it was parsed, and its errors name the column and the remedy."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stepstream.contract.limits import FILTER_CHARACTERS_MAX
from stepstream.runtime.readmodel.search.filters import FIELDS, Filter, FilterError, Pattern, Term

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
patterns = st.builds(Pattern, texts, st.booleans())
attributes = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.\-]{0,8}", fullmatch=True).map("attr.{}".format)
terms = st.one_of(
    st.builds(Term, attributes, st.lists(patterns, min_size=1, max_size=3).map(tuple), st.booleans()),
    st.builds(
        Term,
        st.sampled_from(["function", "event"]),
        st.lists(st.builds(Pattern, texts.filter(bool), st.booleans()), min_size=1, max_size=3).map(tuple),
        st.booleans(),
    ),
    st.builds(Term, st.just(""), st.lists(st.builds(Pattern, texts.filter(bool)), min_size=1, max_size=2).map(tuple)),
    st.builds(Term, st.just("status"), st.just((Pattern("failed"), Pattern("open"))), st.booleans()),
)


@given(st.lists(terms, max_size=5, unique_by=lambda term: term.key or id(term)))
def test_a_printed_filter_is_parsed_as_the_same(found: list[Term]) -> None:
    """Whatever spaces, quotes, stars and commas its values contain."""
    built = Filter(tuple(found))
    assert Filter.parse(str(built)) == built


@given(st.text(max_size=60))
def test_any_text_is_a_filter_or_has_an_error_with_a_column(text: str) -> None:
    """A text that is parsed has a printed form that means the same."""
    try:
        found = Filter.parse(text)
    except FilterError as error:
        found, column = Filter(), error.column
    else:
        column = 1
    assert 1 <= column <= len(text) + 1
    assert Filter.parse(str(found)) == found


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("staus:failed", 1, "write status, or attr.staus for an attribute"),
        ("function:a id:7", 12, "write run_id"),
        ("status:faild", 8, "use one of scheduled, queued"),
        ("status:failed status:open", 15, "write the values that are possible as status:one,other"),
        ('error:"abc', 7, "the closing quote is missing"),
        ("tenant:", 8, 'an empty one is written as ""'),
        ("tenant:a,,b", 10, "a value is missing after tenant:"),
        ('function:""', 10, "the value is empty"),
        ("a OR b", 3, "write alternatives as key:one,other"),
        ("(a)", 1, "terms are joined by AND"),
        ("after:tomorrow", 7, "write a time as 2026-11-28T10:00"),
        ("-after:-1h", 1, "use the other bound"),
        ('cel:"event.amount > 1"', 5, "is event.data.amount meant?"),
        ('-cel:"true"', 1, "write ! in the expression"),
        ("paused:yes", 8, "neither true nor false"),
        ("run_id:abc", 8, "at least its last 6 characters"),
        ('tenant:a"b', 9, "put the whole value in quotes"),
        ('tenant:"a"b', 11, "must follow the closing quote"),
        ("-4711", 1, "put the word in quotes"),
        ("status:fail*", 8, "is not a status"),
        ("error:refused*", 7, "a * is not possible here"),
        ("a:1 " * 21, 5, "given twice"),
        (" ".join(f"a{n}:1" for n in range(21)), 111, "more than 20 terms"),
        ("a:" + ",".join("1" * 51), 103, "more than 50 values"),
        ("x" * (FILTER_CHARACTERS_MAX + 1), FILTER_CHARACTERS_MAX + 1, "use at most 4,096"),
        ("a:\ud800", 1, "lone surrogate"),
    ],
)
def test_an_error_has_the_column_and_the_remedy(text: str, column: int, reason: str) -> None:
    """It says where the text is wrong, and what to write."""
    with pytest.raises(FilterError) as caught:
        Filter.parse(text)
    assert caught.value.column == column
    assert reason in str(caught.value)


def test_an_attribute_with_the_name_of_a_key_has_a_prefix() -> None:
    """`status:` is the status of the run; an attribute of that name is written with `attr.`."""
    found = Filter.parse("attr.status:paid attr.order_id=4711")
    assert [term.attribute for term in found.terms] == ["status", "order_id"]
    assert str(found) == "attr.status:paid order_id:4711"


def test_relative_times_are_replaced_by_absolute_ones() -> None:
    """A list of several pages has the same runs on each, however late it is requested."""
    found = Filter.parse("after:-1h ended_before:2026-11-28 tenant:acme").at(1_700_000_000_123)
    assert str(found) == "after:2023-11-14T21:13:20.123Z ended_before:2026-11-28T00:00:00.000Z tenant:acme"
    assert found == found.at(0)


def test_a_term_is_replaced_and_removed() -> None:
    """Links of pages change one term of a filter and keep the others."""
    found = Filter.parse("status:failed -status:open tenant:acme")
    assert str(found.having("status", "running")) == "-status:open tenant:acme status:running"
    assert str(found.without("attr.tenant")) == "status:failed -status:open"


def test_the_id_of_a_sent_event_is_a_bare_word() -> None:
    """Ids that the engine makes can be pasted without quotes, although they contain colons."""
    found = Filter.parse("01KDVDNA00ZP0GFMQQFK8ZDFSF:0123456789abcdef:0")
    assert [term.key for term in found.terms] == [""]
    assert "" not in FIELDS
