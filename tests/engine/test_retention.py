"""Retention of kept events: each is deleted when it expires, whatever the windows were before and after."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.limits import HOUR_MS, MINUTE_MS
from stepstream.contract.matching import Predicate
from stepstream.engine.state.tables import KEPT_EVENTS, KEPT_INDEX, KEPT_PATHS, TIMERS
from tests.engine.matching.matcher import Matcher
from tests.engine.matching.predicates import BUCKETS
from tests.engine.tables import SHARDS, table

BY_ID = BUCKETS[0]


def looking_back(window_ms: int) -> FunctionRegistered:
    """Return a function that may look back so far."""
    return FunctionRegistered("f", "app", lookback_ms=window_ms)


@table()
def test_events_of_a_shorter_window_are_deleted_before_older_ones() -> None:
    """A window that was a day by mistake keeps its own events for a day, and no event that arrives afterwards.

    10       | function f on=go lookback=86400000 | -
    20       | event order.1                      | -
    30       | function f on=go lookback=60000    | -
    40       | event order.2                      | -
    50       | event order.3                      | -
    180000   | tick                               | -
    180000   | rows KeptEvent                     | 1
    86520000 | tick                               | -
    86520000 | rows KeptEvent                     | 0
    86520000 | rows Timer                         | 0
    """


def test_deleting_events_reads_none_that_stay() -> None:
    """The older events, which are kept for longer, are not read, and the number of kept events does not matter."""
    read = []
    for older in (10, 1_000):
        matcher = Matcher()
        matcher.wait("first", BY_ID)
        matcher.register(looking_back(24 * HOUR_MS))
        for _ in range(older):
            matcher.event(2, 1)
        matcher.run()
        matcher.register(looking_back(HOUR_MS))
        for _ in range(10):
            matcher.event(2, 1)
        matcher.run()
        matcher.now += 3 * HOUR_MS // 2
        matcher.most_read = 0
        matcher.tick()
        assert matcher.rows(KEPT_EVENTS) == older
        read.append(matcher.most_read)
    assert read[0] == read[1] < 50


WINDOWS = st.tuples(st.just("window"), st.sampled_from([0, 1, 2, 5, 30]))
PASSED = st.tuples(st.just("pass"), st.sampled_from([0, 1, 20, 59, 60, 61, 119, 300]))
ARRIVALS = st.tuples(st.just("event"), st.integers(1, 3))
SCRIPTS = st.lists(st.one_of(WINDOWS, PASSED, ARRIVALS, ARRIVALS), max_size=40)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(SCRIPTS, st.integers(1, 3), st.sampled_from(SHARDS), st.booleans())
def test_each_event_is_kept_for_the_window_it_arrived_in(
    script: list[tuple[str, int]], at_once: int, shards: int, indexed: bool
) -> None:
    """It is deleted in the minute after it expires; nothing is left in the end, not even a timer."""
    matcher = Matcher(at_once, shards, checked=True)
    window = HOUR_MS
    until: list[int] = []
    if indexed:
        matcher.wait("first", BY_ID, expires_at=matcher.now + HOUR_MS)
        matcher.run()
    for what, number in script:
        if what == "window":
            window = number * MINUTE_MS
            matcher.register(looking_back(window))
        elif what == "pass":
            matcher.now += number * 1_000
            matcher.tick()
        else:
            if window:
                until.append(matcher.now + window + MINUTE_MS)
            matcher.event(number, 1)
            matcher.run()
        # A minute ends while the log is read, too.
        matcher.tick()
        least = sum(at > matcher.now for at in until)
        most = sum((at // MINUTE_MS + 1) * MINUTE_MS > matcher.now for at in until)
        assert least <= matcher.rows(KEPT_EVENTS) <= most
    matcher.now += 3 * HOUR_MS
    matcher.tick()
    assert [matcher.rows(left) for left in (KEPT_EVENTS, KEPT_INDEX, KEPT_PATHS, TIMERS)] == [0, 0, 0, 0]


@pytest.mark.parametrize("at_once", [1, 2, 500])
def test_a_path_is_forgotten_with_the_last_event_that_it_indexes(at_once: int) -> None:
    """The last of them to be deleted need not be the last that arrived."""
    matcher = Matcher(at_once, checked=True)
    matcher.register(looking_back(5 * HOUR_MS))
    matcher.wait("first", Predicate((("data.id", "n9"),)))
    for number in (1, 2):
        matcher.event(number, 1)
    matcher.run()
    matcher.register(looking_back(HOUR_MS))
    matcher.event(3, 1)
    matcher.run()
    matcher.now += 4 * HOUR_MS
    matcher.tick()
    assert (matcher.rows(KEPT_EVENTS), matcher.rows(KEPT_INDEX), matcher.rows(KEPT_PATHS)) == (2, 2, 1)
    matcher.now += 3 * HOUR_MS
    matcher.tick()
    assert (matcher.rows(KEPT_EVENTS), matcher.rows(KEPT_INDEX), matcher.rows(KEPT_PATHS)) == (0, 0, 0)
