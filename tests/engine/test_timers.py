"""Sleeps and timeouts, as record tables: never early, never twice, and one winner of a tie."""

from tests.engine.tables import table


@table()
def test_a_sleep_ends_at_its_time_and_once() -> None:
    """A sleep ends when its time is reached, not earlier and not twice; one in the past ends at once.

    10 | function f on=go   | -
    10 | event go           | began r1 f; start r1
    11 | plan r1 sleep:a:50 | planned a until 50
    12 | plan r1 sleep:a:90 | -
    13 | plan r1 sleep:b:13 | kept b=null; resume r1 b=null
    49 | tick               | -
    50 | tick               | kept a=null; resume r1 a=null
    50 | tick               | -
    90 | tick               | -
    90 | rows Timer         | 0
    90 | rows OpenStep      | 0
    """


@table()
def test_timers_fire_in_the_order_of_their_times() -> None:
    """Timers that became due while no engine ran fire in the order of their times, all in one batch.

    10 | function f on=go                          | -
    10 | event go                                  | began r1 f; start r1
    11 | plan r1 sleep:a:90 sleep:b:50 wait:c:x:59 | planned c until 70; planned a until 90; planned b until 50
    95 | tick                                      | kept b=null; resume r1 b=null; kept c~; resume r1 c~; kept a=null;
       |                                           | resume r1 a=null
    """


@table()
def test_a_run_that_ends_in_a_tick_removes_its_timers() -> None:
    """A timer that an earlier one of the same batch removed does not fire.

    10 | function f on_failure=h on=go | -
    10 | event go                      | began r1 f; start r1
    11 | plan r1 sleep:a:90 sleep:b:50 | planned a until 90; planned b until 50
    12 | cancel r1                     | cancelled r1 !run-cancelled; stop r1 cancelled;
       |                               | emit stream/function.finished#r1:finished;
       |                               | emit stream/function.cancelled#r1:cancelled
    95 | tick                          | -
    95 | count timer_late              | 0
    """


@table()
def test_an_event_before_the_timeout_wins() -> None:
    """Event and timeout race for one result: the event arrived in time, so the timeout has no effect.

    10  | function f on=go       | -
    10  | event go               | began r1 f; start r1
    11  | plan r1 wait:a:come:89 | planned a until 100
    99  | event come e2          | kept a=come:e2; resume r1 a=come:e2
    99  | rows Timer             | 0
    100 | tick                   | -
    101 | event come e3          | -
    """


@table()
def test_the_timeout_wins_a_tie() -> None:
    """At the time of the timeout an event is too late, whichever of the two is applied first.

    10  | function f on=go       | -
    10  | event go               | began r1 f; start r1
    11  | plan r1 wait:a:come:89 | planned a until 100
    100 | event come e2          | -
    100 | tick                   | kept a~; resume r1 a~
    101 | event come e3          | -
    101 | rows Wait              | 0
    """


@table()
def test_a_match_after_the_timeout_is_too_late() -> None:
    """A match or an answer that arrives from another shard when the step has its result changes nothing.

    10  | function f on=go                         | -
    10  | event go                                 | began r1 f; start r1
    11  | plan r1 wait:a:come:89 signal:b:pager:89 | planned a until 100; planned b until 100
    100 | matched r1 a come e2                     | -
    100 | resolved r1 b =1                         | -
    100 | tick                                     | kept a~; resume r1 a~; kept b~; resume r1 b~
    101 | matched r1 a come e2                     | -
    102 | resolved r1 b =1                         | -
    103 | matched r9 a come e2                     | -
    """


@table()
def test_the_first_of_two_matches_ends_the_wait() -> None:
    """Of two matches for one wait the first is kept, and the timeout has no effect.

    10  | function f on=go       | -
    10  | event go               | began r1 f; start r1
    11  | plan r1 wait:a:come:89 | planned a until 100
    50  | matched r1 a come e2   | kept a=come:e2; resume r1 a=come:e2
    51  | matched r1 a come e3   | -
    100 | tick                   | -
    """


@table()
def test_a_wait_without_time_times_out_at_once() -> None:
    """A wait without time times out in the same activation and is never registered.

    10 | function f on=go                       | -
    10 | event go                               | began r1 f; start r1
    11 | plan r1 wait:a:come:0 signal:b:pager:0 | kept a~; kept b~; resume r1 a~ b~
    11 | rows Wait                              | 0
    11 | rows SignalWaiter                      | 0
    """


@table()
def test_a_timeout_counts_from_its_batch() -> None:
    """A timeout counts from the time of the batch that planned the wait.

    10 | function f on=go       | -
    10 | event go ts=5          | began r1 f; start r1
    30 | plan r1 wait:a:come:50 | planned a until 80
    79 | tick                   | -
    80 | tick                   | kept a~; resume r1 a~
    """
