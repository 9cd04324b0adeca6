"""The end of a run, as record tables: published once, in every state, and without recursion."""

import json

from stepstream.contract.codec import load_json
from tests.engine.tables import Line, World, table


@table()
def test_a_run_ends_once() -> None:
    """After the first end, a second return, failure or cancellation finds no run.

    10 | function f on=go       | -
    10 | event go               | began r1 f; start r1
    11 | return r1 ={"ok":true} | completed r1 ={"ok":true}; emit stream/function.finished#r1:finished
    12 | return r1 ={"ok":true} | -
    13 | raise r1               | -
    14 | cancel r1 reply=me     | reply me not_found
    15 | cancel r9 reply=me     | reply me not_found
    """


@table()
def test_a_failed_run_starts_its_handler() -> None:
    """A failure starts the on_failure function as a separate run, which emits no event when it ends.

    10 | function f on_failure=h on=go | -
    10 | function h on_failure=h       | -
    10 | event go                      | began r1 f; start r1
    11 | raise r1                      | failed r1 !Oops; stop r1 failed; emit stream/function.finished#r1:finished;
       |                               | emit stream/function.failed#r1:failed; began r2 h; start r2
    12 | raise r2                      | failed r2 !Oops; stop r2 failed
    """


@table()
def test_the_error_object_of_an_sdk_reaches_the_caller() -> None:
    """What an SDK of another language reported is part of the history, and of the result of the step that invoked.

    10 | function f on=go          | -
    10 | function g                | -
    10 | event go                  | began r1 f; start r1
    11 | plan r1 invoke:a:g:500    | planned a until 511; began r2 g; start r2
    12 | raise r2 raw={"cause":1}  | failed r2 !Oops{"cause":1}; stop r2 failed;
       |                           | emit stream/function.finished#r2:finished;
       |                           | emit stream/function.failed#r2:failed; kept a!invoked-run-failed{"cause":1};
       |                           | resume r1 a!invoked-run-failed{"cause":1}
    """


def test_the_events_of_a_failure_have_the_error_object_of_an_sdk() -> None:
    """`raw_error` is what an SDK reported; without one the data does not have it."""
    world = World(1)
    for at, record in enumerate(("function f on=go", "event go", 'raise r1 raw={"cause":1}'), 10):
        world.play(Line(at, record, ""))
    data = [load_json(event.data) for event in world.emitted]
    assert [each["raw_error"] for each in data if isinstance(each, dict)] == [{"cause": 1}] * 2


@table()
def test_the_end_of_a_run_says_that_its_error_forbade_a_retry() -> None:
    """The history keeps what the report said.

    10 | function f on=go | -
    10 | event go         | began r1 f; start r1
    11 | raise r1 final   | failed r1 !Oops final; stop r1 failed; emit stream/function.finished#r1:finished;
       |                  | emit stream/function.failed#r1:failed
    """


@table()
def test_a_cancelled_run_does_not_start_its_handler() -> None:
    """A cancellation does not call on_failure, and its caller gets an answer.

    10 | function f on_failure=h on=go | -
    10 | function h                    | -
    10 | event go                      | began r1 f; start r1
    11 | cancel r1 reply=me            | cancelled r1 !run-cancelled; stop r1 cancelled;
       |                               | emit stream/function.finished#r1:finished;
       |                               | emit stream/function.cancelled#r1:cancelled; reply me cancelled
    """


@table()
def test_runs_started_by_end_events_emit_none() -> None:
    """Functions may start on the engine's own events; their runs emit none at their end, so there is no recursion.

    10 | function f on=go | -
    10 | function w on=stream/function.finished;stream/function.failed | -
    10 | event go         | began r1 f; start r1
    11 | raise r1         | failed r1 !Oops; stop r1 failed; emit stream/function.finished#r1:finished;
       |                  | emit stream/function.failed#r1:failed
    12 | emitted          | began r2 w; start r2; began r3 w; start r3
    13 | return r2 =1     | completed r2 =1
    14 | cancel r3        | cancelled r3 !run-cancelled; stop r3 cancelled
    14 | rows Start       | 0
    15 | emitted          | -
    """


@table()
def test_the_event_of_an_end_ends_a_wait() -> None:
    """A run may wait for the end of another.

    10 | function f on=go                            | -
    10 | event go                                    | began r1 f; start r1
    10 | event go                                    | began r2 f; start r2
    11 | plan r1 wait:a:stream/function.finished:500 | planned a until 511
    12 | return r2 =1                                | completed r2 =1; emit stream/function.finished#r2:finished
    13 | emitted                                     | kept a=stream/function.finished:r2:finished;
       |                                             | resume r1 a=stream/function.finished:r2:finished
    """


@table()
def test_the_end_of_a_run_removes_every_open_step() -> None:
    """When a run ends, nothing that it opened anywhere is left, in any state of its steps.

    10  | function f on=go                     | -
    10  | function g                           | -
    10  | event go {"id":1}                    | began r1 f; start r1
    11  | report r1 k =1                       | kept k=1
    11  | fail r1 b attempt=0 retry=2          | attempt 0 of b failed, next 13
    13  | tick                                 | resume r1 b#1
    14  | fail r1 c attempt=0 retry=90 group=g | attempt 0 of c failed, next 104
    15  | plan r1 sleep:s:99@g wait:w:come:500:data.id wait:v:come:500 signal:t:pager:500 invoke:i:g:500 |
        |                                      | planned w until 515; planned v until 515; planned t until 515;
        |                                      | planned s until 99; planned i until 515; began r2 g; start r2
    16  | cancel r1                            | cancelled r1 !run-cancelled; stop r1 cancelled;
        |                                      | emit stream/function.finished#r1:finished;
        |                                      | emit stream/function.cancelled#r1:cancelled
    17  | return r2 =1                         | completed r2 =1; emit stream/function.finished#r2:finished
    18  | rows Run                             | 0
    18  | rows RunEvents                       | 0
    18  | rows Memo                            | 0
    18  | rows OpenStep                        | 0
    18  | rows Group                           | 0
    18  | rows Timer                           | 0
    18  | rows Wait                            | 0
    18  | rows SignalWaiter                    | 0
    999 | tick                                 | -
    """


@table()
def test_sent_events_have_derived_ids() -> None:
    """An event that a step sends without an id gets one from run and step, so that a repeat folds.

    10 | function f on=go       | -
    10 | event go               | began r1 f; start r1
    11 | plan r1 send:a:x:y#k:x | kept a=["r1:a:0","k","r1:a:2"]; emit x#r1:a:0; emit y#k; emit x#r1:a:2;
       |                        | resume r1 a=["r1:a:0","k","r1:a:2"]
    12 | plan r1 send:a:x:y#k:x | -
    """


def test_end_events_have_the_outcome_of_the_run() -> None:
    """They have function, run, status, the first event of the run, and the result or the error."""
    world = World(1)
    records = ["function f on_failure=h on=go", "function h", "event go e1", "return r1 =5", "event go e2", "raise r2"]
    for record in [*records, "cancel r3"]:
        world.play(Line(10, record, ""))
    published = [(event.name.partition(".")[2], json.loads(bytes(event.data))) for event in world.emitted]
    assert [data.pop("event")["id"] for _, data in published] == ["e1", "e2", "e2"]
    first, second = ({"function_id": "f", "run_id": world.run_of(name)} for name in ("r1", "r2"))
    failed = {**second, "status": "failed", "error": {"name": "Oops", "message": "", "stack": "", "code": ""}}
    assert published == [
        ("finished", {**first, "status": "completed", "result": 5}),
        ("finished", failed),
        ("failed", failed),
    ]
    loaded = world.play(Line(11, "claim r3 c1", ""))
    assert loaded == ["stop r3 ended"]


def test_a_repeated_engine_event_starts_one_run() -> None:
    """While the run of an engine event is open, the same event does not start a second one."""
    world = World(1)
    for record in ("function f on=go", "function w on=stream/function.finished", "event go", "return r1 =5"):
        world.play(Line(10, record, ""))
    again = list(world.emitted)
    assert world.play(Line(11, "emitted", "")) == ["began r2 w", "start r2"]
    world.emitted = again
    assert world.play(Line(12, "emitted", "")) == []
    assert world.counts["duplicate_starts",] == 1
