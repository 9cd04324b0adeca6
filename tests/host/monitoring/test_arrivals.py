"""The age of the oldest record that a shard has not processed, from measurements of its lag."""

from stepstream.host.monitoring import arrivals as module
from stepstream.host.monitoring.arrivals import Arrivals
from stepstream.host.monitoring.gauges import _inputs
from tests.fakes.clock import Now

EVENTS = (3, "events")


def test_an_idle_input_has_no_age() -> None:
    """Without lag the age is 0, however long no record has come."""
    now = Now()
    arrivals = Arrivals(now)
    for _ in range(3):
        now.s += 1_000
        assert arrivals.measured({EVENTS: (10, 0)}) == {EVENTS: 0}


def test_the_age_is_that_of_the_first_record_that_waits() -> None:
    """The age grows while the shard is stuck, and falls to the age of the next record when it continues."""
    now = Now()
    arrivals = Arrivals(now)
    arrivals.measured({EVENTS: (10, 0)})
    # Record 10 is seen at 3 s, and record 11 at 60 s.
    for at_s, end, lag, age_s in ((3, 11, 1, 0), (60, 12, 2, 57), (90, 12, 2, 87), (93, 12, 1, 33), (96, 12, 0, 0)):
        now.s = at_s
        assert arrivals.measured({EVENTS: (end, lag)}) == {EVENTS: age_s}


def test_the_oldest_record_of_a_shard_is_that_of_any_input() -> None:
    """A gauge by shard has the highest age of its inputs."""
    now = Now()
    arrivals = Arrivals(now)
    lags = {EVENTS: (10, 0), (3, "inbox"): (7, 2), (4, "events"): (5, 0)}
    list(_inputs(lags, arrivals))
    now.s = 40
    found = {each.labels: each.value for each in _inputs(lags, arrivals) if each.name == "input_oldest_seconds"}
    assert found == {("3",): 40, ("4",): 0}


def test_a_shard_that_moved_away_is_forgotten() -> None:
    """A shard that comes back is not as old as when it left."""
    now = Now()
    arrivals = Arrivals(now)
    arrivals.measured({EVENTS: (10, 5)})
    now.s = 100
    assert arrivals.measured({}) == {}
    assert arrivals.measured({EVENTS: (10, 5)}) == {EVENTS: 0}


def test_memory_is_bounded_while_a_shard_is_stuck() -> None:
    """After days of measurements the age of the first record is exact, and later ones are at most too low."""
    now = Now()
    arrivals = Arrivals(now)
    for at_s in range(10_000):
        now.s = at_s
        arrivals.measured({EVENTS: (at_s, at_s)})
    assert len(arrivals._seen[EVENTS]) <= module._SEEN_MAX
    (age,) = arrivals.measured({EVENTS: (10_000, 5_000)}).values()
    assert 4_980 <= age <= 5_000
