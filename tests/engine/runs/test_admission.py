"""Starting runs, as record tables: deduplication, triggers, events of the future, and cron."""

from typing import Any
from unittest import mock

import pytest

from stepstream.contract.inbox import RunRequested, TriggersContinued
from stepstream.engine.matching import match_budget
from stepstream.engine.state.changes import Changes, Send
from stepstream.engine.state.records import EventReceived
from stepstream.engine.transition import transition
from tests.engine import tables
from tests.engine.tables import Line, World, table

COSTLY = f"[{','.join('1' * 100)}].all(x,x==1)"


@table()
def test_an_event_id_starts_a_function_once_in_24_hours() -> None:
    """An event with an id starts each function at most once in 24 h, also after the run has ended.

    1        | function f on=go       | -
    1        | function g on=go       | -
    10       | event go e1            | began r1 f; start r1; began r2 g; start r2
    11       | event go e1            | -
    11       | count duplicate_starts | 2
    12       | return r1 =1           | completed r1 =1; emit stream/function.finished#r1:finished
    13       | event go e1            | -
    13       | event go e2            | began r3 f; start r3; began r4 g; start r4
    86400009 | event go e1            | -
    86400010 | event go e1            | began r5 f; start r5; began r6 g; start r6
    86400013 | tick                   | -
    86400014 | event go e1            | -
    86400014 | rows Start             | 2
    """


@table()
def test_the_same_event_after_24_hours_starts_a_new_run() -> None:
    """When its start is forgotten, an event with the same id and ts starts a run with another id.

    10        | function f on=go | -
    10        | event go e1 ts=5 | began r1 f; start r1
    11        | return r1 =1     | completed r1 =1; emit stream/function.finished#r1:finished
    86400009  | event go e1 ts=5 | -
    86400010  | event go e1 ts=5 | began r2 f; start r2
    86400011  | return r2 =1     | completed r2 =1; emit stream/function.finished#r2:finished
    172800010 | event go e1 ts=5 | began r3 f; start r3
    """


@table()
def test_deduplication_of_a_future_event_counts_from_its_run() -> None:
    """The start of a run in the future is remembered for 24 h from that time.

    10        | function f on=go        | -
    10        | event go e1 ts=80000000 | began r1 f for 80000000
    80000000  | tick                    | start r1
    80000001  | return r1 =1            | completed r1 =1; emit stream/function.finished#r1:finished
    86400010  | event go e1 ts=80000000 | -
    166399999 | event go e1 ts=80000000 | -
    166400000 | event go e1 ts=80000000 | began r2 f; start r2
    """


@table()
def test_a_start_is_forgotten_after_24_hours() -> None:
    """After 24 h no row and no timer of a start is left.

    10       | function f on=go | -
    10       | event go e1      | began r1 f; start r1
    11       | cancel r1        | cancelled r1 !run-cancelled; stop r1 cancelled;
             |                  | emit stream/function.finished#r1:finished; emit stream/function.cancelled#r1:cancelled
    86400009 | tick             | -
    86400009 | rows Start       | 1
    86400010 | tick             | -
    86400010 | rows Start       | 0
    86400010 | rows Timer       | 0
    """


@table()
def test_without_an_id_the_position_is_the_identity() -> None:
    """Every event without an id starts a run.

    10 | function f on=go | -
    10 | event go         | began r1 f; start r1
    10 | event go         | began r2 f; start r2
    10 | rows Start       | 0
    """


@table()
def test_several_matching_triggers_start_once() -> None:
    """Several matching triggers of one function on one event start it once.

    10 | function f on=go?event.data.x>5;go;go?event.data.x>0;stop | -
    10 | event go {"x":9}                                          | began r1 f; start r1
    11 | event go {"x":0}                                          | began r2 f; start r2
    12 | event stop                                                | began r3 f; start r3
    13 | event walk                                                | -
    13 | count duplicate_starts                                    | 0
    """


@table()
def test_a_condition_that_fails_starts_nothing() -> None:
    """A trigger's condition that is false or fails starts nothing; failures are counted.

    10 | function f on=go?event.data.x>0 | -
    10 | event go {"x":0}                | -
    10 | count condition_errors          | 0
    11 | event go {}                     | -
    11 | count condition_errors          | 1
    12 | event go {"x":1}                | began r1 f; start r1
    """


@table()
def test_an_event_of_the_future_starts_then() -> None:
    """A future ts starts the run at that time, once; until then no worker gets a command, and a claim must wait.

    10  | function f on=go   | -
    10  | event go e1 ts=100 | began r1 f for 100
    11  | event go e1 ts=100 | -
    12  | claim r1 c1        | stop r1 waiting
    99  | tick               | -
    100 | tick               | start r1
    100 | rows Timer         | 0
    101 | tick               | -
    102 | claim r1 c1        | moved to epoch 2; load r1 for c1
    """


@table()
def test_an_event_of_a_clock_that_is_ahead_starts_at_once() -> None:
    """Without a ts it has the time at which the log took it, which the clock of its producer sets.

    10 | function f on=go           | -
    10 | event go e1 arrived=60_000 | began r1 f; start r1
    """


@table()
def test_an_event_of_the_future_wakes_at_once() -> None:
    """An event with a future ts ends waits for its name immediately.

    10 | function f on=go        | -
    10 | event go e1             | began r1 f; start r1
    11 | plan r1 wait:a:come:500 | planned a until 511
    12 | event come e2 ts=400    | kept a=come:e2; resume r1 a=come:e2
    """


@table()
def test_a_scheduled_run_can_be_cancelled() -> None:
    """A cancelled run that has not started never starts.

    10  | function f on=go   | -
    10  | event go e1 ts=100 | began r1 f for 100
    20  | cancel r1 reply=me | cancelled r1 !run-cancelled; stop r1 cancelled;
        |                    | emit stream/function.finished#r1:finished; emit stream/function.cancelled#r1:cancelled;
        |                    | reply me cancelled
    100 | tick               | -
    101 | cancel r1 reply=me | reply me not_found
    """


@table()
def test_a_duplicate_still_wakes() -> None:
    """An event whose id has started a function before still ends waits.

    10 | function f on=go     | -
    10 | event go e1          | began r1 f; start r1
    11 | plan r1 wait:a:go:99 | planned a until 110
    12 | event go e2          | began r2 f; start r2; kept a=go:e2; resume r1 a=go:e2
    13 | plan r1 wait:b:go:99 | planned b until 112
    14 | event go e2          | kept b=go:e2; resume r1 b=go:e2
    """


@table()
def test_a_registration_replaces_the_triggers() -> None:
    """A registration replaces the triggers of a function; a retired function has none, and its runs continue.

    10 | function f on=go           | -
    10 | function g on=go           | -
    11 | function f on=stop         | -
    12 | event go                   | began r1 g; start r1
    12 | event stop                 | began r2 f; start r2
    13 | function f on=stop retired | -
    14 | event stop                 | -
    15 | report r2 a =1             | kept a=1
    16 | function g retired         | -
    16 | rows Triggers              | 0
    """


@table()
def test_cron_starts_a_function() -> None:
    """A cron trigger starts its function once at each time; firings missed while no engine ran fold into one.

    10      | function f cron=*/5_*_*_*_* | -
    11      | function f cron=*/5_*_*_*_* | -
    11      | rows Timer                  | 1
    299999  | tick                        | -
    300000  | tick                        | began r1 f; start r1
    300000  | tick                        | -
    1500001 | tick                        | began r2 f; start r2
    1500002 | tick                        | -
    1800000 | tick                        | began r3 f; start r3
    1800001 | return r3 =1                | completed r3 =1; emit stream/function.finished#r3:finished
    """


@table()
def test_cron_follows_its_time_zone_and_registration() -> None:
    """9:00 in Berlin is 8:00 UTC in January; a changed trigger moves the timer, and a retired function has none.

    10       | function f cron=0_9_*_*_*@Europe/Berlin;0_12_*_*_* | -
    10       | rows Timer                                         | 2
    28799999 | tick                                               | -
    28800000 | tick                                               | began r1 f; start r1
    43200000 | tick                                               | began r2 f; start r2
    43200001 | function f cron=0_13_*_*_*                         | -
    43200001 | rows Timer                                         | 1
    46800000 | tick                                               | began r3 f; start r3
    46800001 | function f retired                                 | -
    46800001 | rows Timer                                         | 0
    46800001 | rows Crons                                         | 0
    """


@table()
def test_an_event_of_the_past_starts_now() -> None:
    """An event with a ts in the past starts its run at once.

    1000 | function f on=go | -
    1000 | event go e1 ts=5 | began r1 f; start r1
    """


@table()
def test_a_function_may_have_event_and_cron_triggers() -> None:
    """A function with both kinds of trigger starts by each, and loses both when it is retired.

    10     | function f on=go cron=*/5_*_*_*_* | -
    20     | event go                          | began r1 f; start r1
    300000 | tick                              | began r2 f; start r2
    300001 | function f on=go                  | -
    300001 | rows Timer                        | 0
    300002 | event go                          | began r3 f; start r3
    300003 | function f retired                | -
    300004 | event go                          | -
    """


@pytest.mark.parametrize(
    "function",
    [f"on=go?{COSTLY}", f"on=go attributes=a:{COSTLY}", f"on=go cancel_on=stop:?{COSTLY}"],
    ids=["conditions", "attributes", "conditions that cancel"],
)
def test_costly_expressions_start_functions_in_several_transitions(function: str) -> None:
    """One event starts all functions that it triggers, each once, and no transition does the work of many."""
    started: list[int] = []

    def watched(*arguments: Any, **options: Any) -> Changes:
        changes = transition(*arguments, **options)
        if isinstance(arguments[1], EventReceived | TriggersContinued):
            sent = [change.record for change in changes.changes if isinstance(change, Send)]
            started.append(sum(isinstance(record, RunRequested) for record in sent))
        return changes

    world = World(3)
    for number in range(20):
        world.play(Line(10, f"function f{number:02} {function}", ""))
    with (
        mock.patch.object(match_budget, "MATCHED_VISITS_PER_RECORD_MAX", 1_000),
        mock.patch.object(tables, "transition", watched),
    ):
        began = world.play(Line(11, "event go", ""))
    assert len([word for word in began if word.startswith("began")]) == 20
    assert sum(started) == 20
    assert max(started) < 5
