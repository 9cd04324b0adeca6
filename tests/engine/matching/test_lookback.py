"""Look-back: a wait ends with the first kept event that satisfies it, at a cost that does not grow with those kept."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.contract.events import EventRecord, event_fields
from stepstream.contract.limits import HOUR_MS, LOOKBACK_EVENTS_MAX
from stepstream.contract.matching import Predicate
from stepstream.engine.state.tables import KEPT_EVENTS, KEPT_INDEX, KEPT_PATHS, LOOK_BACKS, WAITS
from stepstream.expressions.predicates import holds, index_key, lookup
from tests.engine.matching.matcher import TIMEOUT, Matcher, kept
from tests.engine.matching.predicates import BUCKETS, EVENT
from tests.engine.tables import SHARDS, table

BY_ID = BUCKETS[0]
BIG = Predicate(residual="async.data.big > 1")
Script = list[tuple[str, int, object]]


@table()
def test_a_wait_may_look_back() -> None:
    """With a look-back the first event within the window ends the wait at once; older ones and other names do not.

    10 | function f on=go lookback=100                 | -
    10 | event go {"id":1}                             | began r1 f; start r1
    20 | event come {"id":1} old                       | -
    50 | event come {"id":2} e2                        | -
    60 | event come {"id":1} e3                        | -
    61 | event come {"id":1} e4                        | -
    70 | plan r1 wait:a:come:500:data.id lookback=30   | planned a until 570; kept a=come:e3; resume r1 a=come:e3
    71 | plan r1 wait:b:come:500:data.id               | planned b until 571
    72 | plan r1 wait:c:leave:500:data.id lookback=100 | planned c until 572
    73 | event leave {"id":1} e5                       | kept c=leave:e5; resume r1 c=leave:e5
    """


@table()
def test_a_timeout_of_zero_asks_whether_it_has_come() -> None:
    """Without a time to wait, a look-back says at once whether there is a kept event; without it nothing can be.

    10 | function f on=go lookback=100             | -
    11 | event come {"id":1} e1                    | -
    12 | event go {"id":1}                         | began r1 f; start r1
    13 | plan r1 wait:a:come:0:data.id lookback=50 | planned a until 13; kept a=come:e1; resume r1 a=come:e1
    14 | plan r1 wait:b:gone:0:data.id lookback=50 | planned b until 14
    14 | tick                                      | kept b~; resume r1 b~
    15 | plan r1 wait:c:come:0:data.id             | kept c~; resume r1 c~
    16 | rows Wait                                 | 0
    16 | rows LookBack                             | 0
    """


@table()
def test_a_wait_that_looked_back_times_out() -> None:
    """When no kept event ends a wait, it waits for later ones until it times out, and its matcher says so.

    10  | function f on=go lookback=100 | -
    11  | event come {"id":2} e1        | -
    12  | event go {"id":1}             | began r1 f; start r1
    13  | plan r1 wait:a:come:87:data.id lookback=50 wait:b:come:87:?async.data.id==1&&async.data.n>0 lookback=50 |
        |                               | planned a until 100; planned b until 100
    14  | rows Wait                     | 2
    100 | tick                          | kept b~; resume r1 b~; kept a~; resume r1 a~
    100 | rows Wait                     | 0
    101 | event come {"id":1,"n":1} e2  | -
    """


@table()
def test_an_event_on_its_way_beats_the_timeout_of_a_look_back() -> None:
    """The matcher removes a wait when an event ends it, so its word counts even if the timer is due by then.

    10  | function f on=go lookback=100              | -
    12  | event go {"id":1}                          | began r1 f; start r1
    13  | plan r1 wait:a:come:87:data.id lookback=50 | planned a until 100
    100 | matched r1 a come e2 & tick                | kept a=come:e2; resume r1 a=come:e2
    101 | rows Timer                                 | 0
    """


@table()
def test_a_truncated_look_back_warns_the_run() -> None:
    """The warning names the step and the event, is recorded once, and is too late when the step has its result.

    10 | function f on=go lookback=100      | -
    12 | event go                           | began r1 f; start r1
    13 | plan r1 wait:a:come:87 lookback=50 | planned a until 100
    14 | truncated r1 a come                | warned step 'a' looked back at only the newest 200 of the kept events
       |                                    | 'come': use match= or an equality in if_=, by which the engine finds those
       |                                    | that match
    15 | truncated r1 a come                | -
    16 | raise r1 attempt=0 retry=50        | attempt 0 failed, next 66
    17 | truncated r1 b come                | -
    18 | truncated r1 a leave               | warned step 'a' looked back at only the newest 200 of the kept events
       |                                    | 'leave': use match= or an equality in if_=, by which the engine finds
       |                                    | those that match
    """


@table()
def test_the_own_trigger_never_wakes() -> None:
    """The event that started a run does not end its wait for that name, not even one that looks back.

    10 | function f on=go lookback=100      | -
    10 | event go e1                        | began r1 f; start r1
    11 | plan r1 wait:a:go:500 lookback=100 | planned a until 511
    12 | event go e2                        | began r2 f; start r2; kept a=go:e2; resume r1 a=go:e2
    """


WAITING = st.tuples(st.just("wait"), st.integers(0, 9), st.sampled_from(BUCKETS))
EVENTS = st.tuples(st.just("event"), st.integers(1, 2), st.integers(1, 2))
PASSES = st.tuples(st.just("pass"), st.integers(1, 3), st.none())
ENDS = st.tuples(st.sampled_from(["close", "expire"]), st.integers(0, 9), st.none())
SCRIPTS = st.lists(st.one_of(WAITING, EVENTS, EVENTS, EVENTS, PASSES, ENDS), max_size=40)


def play(script: Script, matcher: Matcher) -> dict[str, str]:
    """Play a script to its end; return by which event each wait must end, TIMEOUT, or "" for one that stays open."""
    events: list[EventRecord] = []
    opened: dict[str, Predicate] = {}
    closed, expected = set[str](), dict[str, str]()

    def first(predicate: Predicate) -> str:
        return next((event.id for event in events if satisfies(event, predicate)), "")

    for what, number, more in script:
        run_id = f"run{number}"
        matcher.now += 1
        if what == "event":
            matcher.event(number, int(str(more)))
            events.append(EventRecord(EVENT, matcher.data, f"e{matcher.events}"))
        elif what == "pass":
            matcher.run(number)
        elif what == "wait" and run_id not in opened:
            assert isinstance(more, Predicate)
            opened[run_id] = more
            matcher.wait(run_id, more)
        elif what in ("close", "expire") and run_id in opened.keys() - closed:
            closed.add(run_id)
            if what == "expire":
                expected[run_id] = first(opened[run_id]) or TIMEOUT
            matcher.close(run_id, expired=what == "expire")
            # An event that comes before an expired wait is answered may end it, or not.
            matcher.run(-1 if what == "expire" else 0)
    matcher.run()
    return expected | {run_id: first(predicate) for run_id, predicate in opened.items() if run_id not in closed}


def satisfies(event: EventRecord, predicate: Predicate) -> bool:
    """Return whether an event satisfies a predicate, as plainly as it can be said."""
    fields = event_fields(event)
    equal = all(index_key(lookup(fields, path)) == value for path, value in predicate.equalities)
    return equal and (not predicate.residual or holds(predicate.residual, {"async": fields}))


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(SCRIPTS, st.integers(1, 4), st.sampled_from(SHARDS), st.booleans())
def test_each_wait_ends_with_the_first_event(script: Script, at_once: int, shards: int, doubled: bool) -> None:
    """Kept or later, whatever index was complete when, and however few events one transition may evaluate.

    Nothing is left of a look-back that has ended, nor of expired events.
    """
    matcher = Matcher(at_once, shards, doubled=doubled, checked=True)
    expected = play(script, matcher)
    for run_id, by in expected.items():
        # A timeout beats an event that is still being matched in several transitions.
        assert matcher.ended.get(run_id, "") in ({by, TIMEOUT} if run_id in matcher.overtaken else {by})
    assert matcher.rows(LOOK_BACKS) == 0
    assert matcher.rows(WAITS) == sum(not by for by in expected.values())
    matcher.now += 3 * HOUR_MS
    matcher.tick()
    assert [matcher.rows(kept) for kept in (KEPT_EVENTS, KEPT_INDEX, KEPT_PATHS)] == [0, 0, 0]


def test_a_look_back_by_an_equality_reads_its_matches_only() -> None:
    """The first event, the last one, and none: as many rows are read of 2,000 kept events as of 20."""
    read = []
    for count in (20, 2_000):
        matcher = kept(count)
        for run_id, value in (("first of all", 1), ("last of all", count), ("none", count + 1)):
            matcher.wait(run_id, Predicate((("data.id", f"n{value}"),)))
            matcher.run()
        assert matcher.ended == {"first of all": "e1", "last of all": f"e{count}"}
        read.append(matcher.most_read)
    assert read[0] == read[1] < 20


def test_events_before_the_window_are_not_read() -> None:
    """A look-back begins with the first entry of the index that it may see."""
    matcher = Matcher()
    matcher.wait("first", Predicate((("data.id", "n0"),)))
    for number in range(100):
        matcher.event(1, number)
    matcher.run()
    matcher.now, matcher.most_read = 1_000, 0
    matcher.event(1, 2)
    matcher.run()
    matcher.wait("r", BUCKETS[1], lookback_from=1_000)
    matcher.run()
    assert matcher.ended == {"r": "e101"}


def test_a_look_back_without_an_index_is_bounded_and_says_so() -> None:
    """It evaluates the newest 200 kept events in the order of their arrival, and warns the run of the others."""
    matcher = kept(LOOKBACK_EVENTS_MAX + 1)
    matcher.event(1, 2)
    matcher.run()
    for run_id, predicate in (("big", BIG), ("any", Predicate()), ("none", Predicate(residual="async.data.big > 2"))):
        matcher.wait(run_id, predicate)
        matcher.run()
    assert matcher.ended == {"big": f"e{LOOKBACK_EVENTS_MAX + 1}", "any": "e3"}
    assert matcher.truncated == ["big", "any", "none"]


def test_a_window_with_few_events_is_seen_whole() -> None:
    """A look-back without an index warns of nothing while its window has no more events than it evaluates."""
    matcher = kept(LOOKBACK_EVENTS_MAX + 10)
    matcher.now = 5_000
    for _ in range(LOOKBACK_EVENTS_MAX):
        matcher.event(1, 1)
    matcher.run()
    matcher.wait("r", Predicate(residual="async.data.big > 2"), lookback_from=5_000)
    matcher.run()
    assert matcher.truncated == []


def test_a_bucket_with_a_condition_is_bounded_too() -> None:
    """One equality finds the bucket, and of its events the newest are evaluated against the rest of the predicate."""
    matcher = Matcher()
    matcher.wait("first", BY_ID)
    matcher.event(1, 2)
    for _ in range(LOOKBACK_EVENTS_MAX + 1):
        matcher.event(1, 1)
    matcher.run()
    matcher.wait("r", BUCKETS[1])
    matcher.wait("equal", BY_ID)
    matcher.run()
    assert matcher.ended == {"first": "e1", "equal": "e1"}
    assert matcher.truncated == ["r"]


def test_a_wait_that_expires_while_it_looks_back_is_answered_by_it() -> None:
    """A kept event ends it; an event of after its time does not; without any it times out."""
    matcher = Matcher(3)
    for number in range(20):
        matcher.event(number, 1)
    matcher.run()
    matcher.wait("found", Predicate((("data.id", "n19"),)), expires_at=matcher.now)
    matcher.wait("late", Predicate((("data.id", "n99"),)), expires_at=matcher.now + 1)
    matcher.run(1)
    matcher.now += 10
    matcher.event(99, 1)
    matcher.close("found", expired=True)
    matcher.close("late", expired=True)
    matcher.run()
    assert matcher.ended == {"found": "e20", "late": TIMEOUT}
    assert (matcher.rows(WAITS), matcher.rows(LOOK_BACKS)) == (0, 0)


@pytest.mark.parametrize("predicate", BUCKETS)
@pytest.mark.parametrize("shards", SHARDS)
def test_a_closed_wait_looks_back_no_further(predicate: Predicate, shards: int) -> None:
    """When its run ends, nothing of a wait is left, and no kept event ends it."""
    matcher = Matcher(1, shards)
    for _ in range(9):
        matcher.event(2, 0)
    matcher.event(1, 2)
    matcher.run()
    matcher.wait("r", predicate, lookback_from=12)
    matcher.run(2)
    assert matcher.rows(LOOK_BACKS) == 1
    matcher.close("r")
    matcher.run()
    assert (matcher.rows(LOOK_BACKS), matcher.rows(WAITS), matcher.ended) == (0, 0, {})
