"""Kept events: the paths by which they are indexed, their order, and their end."""

from unittest import mock

import pytest

from stepstream.contract.events import event_fields
from stepstream.contract.limits import HOUR_MS, LOOKBACK_PATHS_PER_NAME_MAX, MIB, Limits
from stepstream.contract.matching import Predicate
from stepstream.engine.matching import match_budget
from stepstream.engine.state.tables import KEPT_EVENTS, KEPT_INDEX, LOOK_BACKS, WAITS, place_of
from tests.engine.matching.matcher import DROPS, KEEPS, Matcher, kept
from tests.engine.matching.predicates import BUCKETS
from tests.engine.tables import SHARDS, table

BY_ID = BUCKETS[0]
BIG = Predicate(residual="async.data.big > 1")
Script = list[tuple[str, int, object]]


@table()
def test_kept_events_are_deleted_when_they_are_too_old() -> None:
    """An event that is too old for any look-back is deleted within two minutes, even if no function looks back now.

    10     | function f on=go lookback=60000 | -
    20     | event order.1                   | -
    21     | event order.2                   | -
    60001  | event order.1                   | -
    60001  | function f on=go lookback=0     | -
    60001  | rows KeptEvent                  | 3
    179999 | tick                            | -
    179999 | rows KeptEvent                  | 3
    180000 | tick                            | -
    180000 | rows KeptEvent                  | 1
    240000 | tick                            | -
    240000 | rows KeptEvent                  | 0
    240000 | rows Timer                      | 0
    """


@table(Limits(waits_per_match_max=2))
def test_kept_events_are_deleted_a_few_at_a_time() -> None:
    """One tick deletes a bounded number; the next one, which is due at once, continues.

    10     | function f on=go lookback=60000                   | -
    20     | event come & event come & event come & event come | -
    20     | event come                                        | -
    180000 | tick                                              | -
    180000 | rows KeptEvent                                    | 3
    180000 | tick                                              | -
    180000 | rows KeptEvent                                    | 1
    180000 | tick                                              | -
    180000 | rows KeptEvent                                    | 0
    """


@table(Limits(waits_per_match_max=1))
def test_deletions_of_several_minutes_do_not_replace_one_another() -> None:
    """A shard that was away for some minutes has several timers of a name due at once, and continues each.

    10     | function f on=go lookback=60000                   | -
    20     | event come & event come                           | -
    60020  | event come & event come                           | -
    600000 | tick                                              | -
    600000 | rows KeptEvent                                    | 2
    600000 | tick                                              | -
    600000 | rows KeptEvent                                    | 0
    """


@table()
def test_events_are_kept_while_a_function_may_look_back() -> None:
    """Events are kept for the longest look-back of any function that is not retired, and not at all otherwise.

    10 | function f on=go lookback=100       | -
    10 | function g lookback=20              | -
    20 | event come                          | -
    30 | function g lookback=0               | -
    60 | event come                          | -
    60 | rows KeptEvent                      | 2
    61 | event go                            | began r1 f; start r1
    62 | plan r1 wait:a:come:500 lookback=60 | planned a until 562; kept a=come:p3; resume r1 a=come:p3
    62 | function f retired                  | -
    63 | event come                          | -
    63 | rows KeptEvent                      | 3
    """


@pytest.mark.parametrize("shards", SHARDS)
def test_events_kept_before_their_path_was_known_are_found(shards: int) -> None:
    """The first look-backs by a path wait until the kept events are indexed by it, a few at a time."""
    matcher = Matcher(3, shards)
    for number in range(20):
        matcher.event(number, 1)
    matcher.run()
    for number in (5, 19, 99):
        matcher.wait(f"r{number}", Predicate((("data.id", f"n{number}"),)))
    matcher.run(3)
    assert (matcher.ended, matcher.rows(LOOK_BACKS)) == ({}, 3)
    matcher.event(99, 1)
    matcher.run()
    assert matcher.ended == {"r5": "e6", "r19": "e20", "r99": "e21"}


def test_a_path_that_is_new_is_indexed_in_bounded_portions() -> None:
    """No transition reads more events than its bound, however many are kept; the look-back finds its event."""
    read = []
    for count in (200, 2_000):
        matcher = Matcher(50)
        for number in range(count):
            matcher.event(number, 1)
        matcher.run()
        matcher.most_read = 0
        matcher.wait("r", Predicate((("data.id", f"n{count - 1}"),)))
        matcher.run()
        assert matcher.ended == {"r": f"e{count}"}
        read.append(matcher.most_read)
    assert read[0] == read[1] <= 3 * 50


def test_further_paths_use_the_index_of_all_events() -> None:
    """A name has a bounded number of indexes; look-backs by other paths are bounded, as those without an equality."""
    matcher = Matcher()
    fields = "".join(f',"k{at}":{at}' for at in range(LOOKBACK_PATHS_PER_NAME_MAX + 2))
    matcher.event(1, 1, more=fields)
    matcher.run()
    for at in range(LOOKBACK_PATHS_PER_NAME_MAX + 2):
        matcher.wait(f"r{at}", Predicate(((f"data.k{at}", f"n{at}"),)))
    matcher.wait("long", Predicate(((f"data.{'k' * 300}", "n1"),)))
    matcher.run()
    assert matcher.ended == {f"r{at}": "e1" for at in range(LOOKBACK_PATHS_PER_NAME_MAX + 2)}
    assert matcher.rows(KEPT_INDEX) == LOOKBACK_PATHS_PER_NAME_MAX + 1


def test_an_index_that_is_not_used_is_not_maintained() -> None:
    """An hour after its last use a path gets no further entries; its next use indexes what was kept meanwhile."""
    matcher = Matcher(2)
    matcher.wait("first", BY_ID)
    matcher.event(1, 1)
    matcher.event(2, 1)
    matcher.run()
    matcher.now += 2 * HOUR_MS
    matcher.register(KEEPS)
    for number in (3, 4, 5, 6, 7):
        matcher.event(number, 1)
    matcher.run()
    assert matcher.rows(KEPT_INDEX) == 2
    for number in (2, 7, 3):
        matcher.wait(f"r{number}", Predicate((("data.id", f"n{number}"),)))
    matcher.run()
    assert matcher.ended == {"first": "e1", "r2": "e2", "r7": "e7", "r3": "e3"}
    assert matcher.rows(KEPT_INDEX) == 7


def test_a_look_back_sees_what_comes_after_the_last_function_was_retired() -> None:
    """Events are kept for a look-back that still waits for its index, though none would be kept otherwise."""
    matcher = Matcher(1)
    for _ in range(5):
        matcher.event(2, 1)
    matcher.run()
    matcher.wait("r", BY_ID)
    matcher.run(2)
    matcher.register(DROPS)
    matcher.event(1, 1)
    matcher.run()
    assert matcher.ended == {"r": "e6"}
    matcher.event(1, 1)
    matcher.run()
    assert matcher.rows(KEPT_EVENTS) == 6


def test_large_kept_events_are_evaluated_a_few_at_a_time() -> None:
    """One transition evaluates 4 MiB of events, and one event in any case."""
    matcher = Matcher()
    for _ in range(20):
        matcher.event(1, 1, text="x" * MIB)
    matcher.wait("index", Predicate(residual="async.data.big > 9"))
    matcher.run()
    matcher.wait("r", Predicate(residual="async.data.big > 1"))
    with mock.patch.object(match_budget, "event_fields", wraps=event_fields) as parsed:
        matcher.run(1)
        assert 0 < parsed.call_count <= 8
    matcher.run()
    assert matcher.rows(WAITS) == 2


def test_the_work_of_expressions_is_bounded() -> None:
    """A costly expression evaluates fewer events in one transition, and still finds its event."""
    matcher = kept(100)
    matcher.wait("index", Predicate(residual="async.data.big > 9"))
    matcher.run()
    costly = Predicate(residual=f"[{','.join('1' * 100)}].exists(x, async.data.big > x)")
    with mock.patch.object(match_budget, "MATCHED_VISITS_PER_RECORD_MAX", 1_000):
        matcher.wait("r", costly)
        matcher.run(10)
        assert matcher.rows(LOOK_BACKS) == 1
        matcher.run()
    assert matcher.ended == {"r": "e100"}


def test_a_window_counts_from_the_arrival_of_an_event() -> None:
    """While the clock of an engine was an hour ahead, no event became younger, and none is lost."""
    matcher = Matcher()
    start = matcher.now
    for matcher.now in (start + HOUR_MS, start + 1, start + HOUR_MS // 2):
        matcher.event(1, 1)
        matcher.run()
    matcher.wait("late", Predicate(), lookback_from=matcher.now - 60_000)
    matcher.run()
    assert matcher.ended == {"late": "e1"}
    matcher.wait("later", Predicate((("data.big", "n2"),)))
    matcher.run()
    assert "later" not in matcher.ended


def test_a_clock_that_goes_back_changes_no_order() -> None:
    """The next machine's clock may be behind: events are evaluated in the order of the log."""
    matcher = Matcher(1)
    for matcher.now in (900, 100, 100):
        matcher.event(1, 2)
        matcher.run()
    places = [place_of(key) for key in sorted(matcher.tables[0].rows) if key.table == KEPT_EVENTS.prefix]
    assert [number for _, number in places] == [1, 2, 3]
    matcher.wait("r", BUCKETS[4])
    matcher.run()
    assert matcher.ended == {"r": "e1"}
