"""Sleeps and timers, as record tables: not early, not twice, and one winner of a tie."""

from tests.engine.tables import table


@table()
def test_a_sleep_ends_at_its_time_and_once() -> None:
    """A sleep is over when its time has come, not earlier and not twice; a past one is over at once.

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
    """What fell due while nobody served happens in the order of the times, all of it in one go.

    10 | function f on=go                          | -
    10 | event go                                  | began r1 f; start r1
    11 | plan r1 sleep:a:90 sleep:b:50 wait:c:x:59 | planned c until 70; planned a until 90; planned b until 50
    95 | tick                                      | kept b=null; resume r1 b=null; kept c~; resume r1 c~; kept a=null;
       |                                           | resume r1 a=null
    """


@table()
def test_a_run_that_ends_in_a_tick_takes_its_other_timers_along() -> None:
    """A timer that an earlier one of the same moment has taken away does not fire.

    10 | function f on=go on_failure=h | -
    10 | event go                      | began r1 f; start r1
    11 | plan r1 sleep:a:90 sleep:b:50 | planned a until 90; planned b until 50
    12 | cancel r1                     | cancelled r1 !run-cancelled; stop r1 cancelled;
       |                               | emit stream/function.finished#r1:finished;
       |                               | emit stream/function.cancelled#r1:cancelled
    95 | tick                          | -
    95 | count timer_late              | 0
    """


@table()
def test_the_event_wins_when_it_comes_first() -> None:
    """Event and timeout race for one memo: the event came in time, so the timeout finds nothing to do.

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
    """At the very time of the timeout an event is too late, whichever of the two is taken first.

    10  | function f on=go       | -
    10  | event go               | began r1 f; start r1
    11  | plan r1 wait:a:come:89 | planned a until 100
    100 | event come e2          | -
    100 | tick                   | kept a~; resume r1 a~
    101 | event come e3          | -
    101 | rows Wait              | 0
    """


@table()
def test_a_match_on_its_way_is_too_late_after_the_timeout() -> None:
    """A match or an answer that arrives from another shard when the step has its result changes nothing.

    10  | function f on=go                        | -
    10  | event go                                | began r1 f; start r1
    11  | plan r1 wait:a:come:89 signal:b:bell:89 | planned a until 100; planned b until 100
    100 | matched r1 a come e2                    | -
    100 | resolved r1 b =1                        | -
    100 | tick                                    | kept a~; resume r1 a~; kept b~; resume r1 b~
    101 | matched r1 a come e2                    | -
    102 | resolved r1 b =1                        | -
    103 | matched r9 a come e2                    | -
    """


@table()
def test_a_match_on_its_way_ends_the_wait_once() -> None:
    """Of two matches for one wait the first is kept, and the timeout finds nothing to do.

    10  | function f on=go       | -
    10  | event go               | began r1 f; start r1
    11  | plan r1 wait:a:come:89 | planned a until 100
    50  | matched r1 a come e2   | kept a=come:e2; resume r1 a=come:e2
    51  | matched r1 a come e3   | -
    100 | tick                   | -
    """


@table()
def test_no_time_to_wait_is_a_timeout_at_once() -> None:
    """A wait without time has its timeout in the same turn and is never registered.

    10 | function f on=go                      | -
    10 | event go                              | began r1 f; start r1
    11 | plan r1 wait:a:come:0 signal:b:bell:0 | kept a~; kept b~; resume r1 a~ b~
    11 | rows Wait                             | 0
    11 | rows SignalWaiter                     | 0
    """


@table()
def test_the_start_time_of_a_turn_is_that_of_its_batch() -> None:
    """A timeout is counted from the time of the batch that planned the wait.

    10 | function f on=go       | -
    10 | event go ts=5          | began r1 f; start r1
    30 | plan r1 wait:a:come:50 | planned a until 80
    79 | tick                   | -
    80 | tick                   | kept a~; resume r1 a~
    """
