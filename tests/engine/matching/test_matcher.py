"""Waiting for events, as record tables: the order of the log decides, and only matching events wake."""

from stepstream.contract.events import EventRecord
from stepstream.contract.history import StepPlanned
from stepstream.contract.matching import EventRouted
from stepstream.engine.state.changes import Send, is_local
from stepstream.engine.state.records import EventReceived
from stepstream.engine.transition import transition
from tests.engine.notation import read_record
from tests.engine.tables import Line, World, table
from tests.fakes.tables import Tables


@table()
def test_only_later_events_wake() -> None:
    """An event before the registration of a wait never ends it; one after it does, once.

    10 | function f on=go        | -
    10 | event go                | began r1 f; start r1
    11 | event come e1           | -
    12 | plan r1 wait:a:come:500 | planned a until 512
    13 | event leave e2          | -
    13 | event come e3           | kept a=come:e3; resume r1 a=come:e3
    14 | event come e4           | -
    14 | rows Wait               | 0
    14 | rows Timer              | 0
    """


@table()
def test_one_event_ends_all_waits_and_starts_functions() -> None:
    """One event ends every wait that it satisfies, and starts every function that it triggers.

    10 | function f on=go                        | -
    10 | function g on=come                      | -
    10 | event go                                | began r1 f; start r1
    10 | event go                                | began r2 f; start r2
    11 | plan r1 wait:a:come:500 wait:b:come:500 | planned a until 511; planned b until 511
    11 | plan r2 wait:a:come:500                 | planned a until 511
    12 | event come e1                           | began r3 g; start r3; kept a=come:e1; resume r2 a=come:e1;
       |                                         | kept a=come:e1; resume r1 a=come:e1; kept b=come:e1;
       |                                         | resume r1 b=come:e1
    """


@table()
def test_match_requires_the_same_value_on_both_sides() -> None:
    """`match=` is equality of the values of trigger and candidate, types included; 1 and 1.0 are equal.

    10 | function f on=go                | -
    10 | event go {"id":1}               | began r1 f; start r1
    11 | plan r1 wait:a:come:500:data.id | planned a until 511
    12 | event come {"id":2}             | -
    12 | event come {"id":"1"}           | -
    12 | event come {"id":true}          | -
    12 | event come {"id":null}          | -
    12 | event come {"id":[1]}           | -
    12 | event come {"no":1}             | -
    13 | event come {"id":1.0} e1        | kept a=come:e1; resume r1 a=come:e1
    """


@table()
def test_a_missing_path_never_matches() -> None:
    """If the trigger has no value at the path, or null, nothing matches, not even another such event.

    10  | function f on=go                                     | -
    10  | event go {"n":null}                                  | began r1 f; start r1
    11  | plan r1 wait:a:come:89:data.id wait:b:come:89:data.n | planned a until 100; planned b until 100
    11  | rows Wait                                            | 0
    12  | event come {}                                        | -
    12  | event come {"id":null,"n":null}                      | -
    100 | tick                                                 | kept a~; resume r1 a~; kept b~; resume r1 b~
    """


@table()
def test_an_equality_is_indexed_and_the_rest_is_checked() -> None:
    """One equality of a conjunction finds the wait, and the rest of it decides; `event` is the trigger.

    10 | function f on=go             | -
    10 | event go {"id":1,"least":5}  | began r1 f; start r1
    11 | plan r1 wait:a:come:500:?async.data.id==event.data.id&&async.data.n>event.data.least | planned a until 511
    12 | event come {"id":2,"n":9}    | -
    12 | event come {"id":1,"n":5}    | -
    12 | event come {"id":1}          | -
    12 | count match_errors           | 1
    13 | event come {"id":1,"n":6} e1 | kept a=come:e1; resume r1 a=come:e1
    """


@table()
def test_two_equalities_must_both_hold() -> None:
    """A second equality is required as much as the one that is indexed.

    10 | function f on=go                                            | -
    10 | event go {}                                                 | began r1 f; start r1
    11 | plan r1 wait:a:come:500:?async.data.x==1&&async.data.y=="b" | planned a until 511
    12 | event come {"x":1,"y":"c"}                                  | -
    12 | event come {"x":2,"y":"b"}                                  | -
    13 | event come {"x":1,"y":"b"} e1                               | kept a=come:e1; resume r1 a=come:e1
    """


@table()
def test_an_expression_without_equality_is_scanned() -> None:
    """Waits without a usable equality are in the scan bucket of the name, and an error is not a match.

    10 | function f on=go                                        | -
    10 | event go {}                                             | began r1 f; start r1
    11 | plan r1 wait:a:come:500:?async.data.x>3||async.data.y>3 | planned a until 511
    12 | event come {"x":1,"y":1}                                | -
    12 | event come {"z":1}                                      | -
    12 | count match_errors                                      | 1
    13 | event come {"y":4} e1                                   | kept a=come:e1; resume r1 a=come:e1
    """


@table()
def test_waits_for_one_name_may_use_several_paths() -> None:
    """One event finds the waits for its name by different paths, and those by none.

    10 | function f on=go                    | -
    10 | event go {"id":1,"user":"ann"}      | began r1 f; start r1
    11 | plan r1 wait:a:come:500:data.id     | planned a until 511
    12 | plan r1 wait:b:come:500:data.user   | planned b until 512
    13 | plan r1 wait:c:come:500             | planned c until 513
    14 | event come {"user":"ann"} e1        | kept c=come:e1; resume r1 c=come:e1; kept b=come:e1; resume r1 b=come:e1
    15 | event come {"id":1,"user":"ann"} e2 | kept a=come:e2; resume r1 a=come:e2
    16 | rows Wait                           | 0
    """


@table()
def test_a_path_is_used_until_its_last_wait_ends() -> None:
    """A path stays in use until its last wait ends, whenever the others end.

    10 | function f on=go                | -
    10 | event go {"id":1}               | began r1 f; start r1
    11 | plan r1 wait:a:come:500:data.id | planned a until 511
    12 | plan r1 wait:b:come:50:data.id  | planned b until 62
    62 | tick                            | kept b~; resume r1 b~
    70 | event come {"id":1} e1          | kept a=come:e1; resume r1 a=come:e1
    """


@table()
def test_the_row_of_a_name_expires_with_its_waits() -> None:
    """A name for which no wait can be open leaves no row; one with open waits is known, and its events end them.

    10  | function f on=go                         | -
    10  | event go                                 | began r1 f; start r1
    11  | plan r1 wait:a:come:100                  | planned a until 111
    12  | event come e1                            | kept a=come:e1; resume r1 a=come:e1
    13  | plan r1 wait:b:come:200:?async.data.n==1 | planned b until 213
    13  | plan r1 wait:c:leave:100                 | planned c until 113
    111 | tick                                     | -
    111 | rows EventName                           | 2
    113 | tick                                     | kept c~; resume r1 c~
    113 | rows EventName                           | 1
    114 | event come {"n":1} e2                    | kept b=come:e2; resume r1 b=come:e2
    213 | tick                                     | -
    213 | rows EventName                           | 0
    214 | plan r1 wait:d:come:100                  | planned d until 314
    214 | rows EventName                           | 1
    """


@table()
def test_a_bad_expression_fails_the_step() -> None:
    """A predicate that does not compile is the error of the step at once, and nothing is registered.

    10 | function f on=go                         | -
    10 | event go                                 | began r1 f; start r1
    11 | plan r1 wait:a:come:500:?async.data.id== | kept a!invalid-expression; resume r1 a!invalid-expression
    11 | rows Wait                                | 0
    11 | rows OpenStep                            | 0
    """


@table()
def test_waits_are_registered_first() -> None:
    """The waits of an activation are registered before its other effects, so a run cannot miss its own answer.

    10 | function f on=go | -
    10 | function g       | -
    10 | event go         | began r1 f; start r1
    11 | plan r1 send:a:ask#q invoke:b:g:500 signal:c:pager:500 wait:d:reply:500 ack |
       |                  | planned c until 511; planned d until 511; kept a=["q"]; emit ask#q; planned b until 511;
       |                  | resume r1 a=["q"] ack; began r2 g; start r2
    12 | event reply e1   | kept d=reply:e1; resume r1 d=reply:e1
    """


@table()
def test_a_wait_is_removed_when_it_ends() -> None:
    """A lost race, the timeout, and the end of the run remove a wait.

    10 | function f on=go     | -
    10 | event go {"id":1}    | began r1 f; start r1
    11 | plan r1 wait:a:come:500 wait:b:come:500:data.id wait:c:come:9 |
       |                      | planned a until 511; planned b until 511; planned c until 20
    11 | rows Wait            | 3
    12 | plan r1 cancel=b,b,x | dropped b
    12 | rows Wait            | 2
    20 | tick                 | kept c~; resume r1 c~
    20 | rows Wait            | 1
    21 | return r1 =1         | completed r1 =1; emit stream/function.finished#r1:finished
    21 | rows Wait            | 0
    22 | event come {"id":1}  | -
    """


def test_history_says_what_a_step_waits_for() -> None:
    """It has the event name and the condition, the name of the signal, or the function; nothing for a sleep."""
    world = World(1)
    for record in ("function f on=go", "function g", 'event go {"id":1}'):
        world.play(Line(10, record, ""))
    plans = "wait:a:come:9:data.id wait:b:come:9:?async.data.x>1 wait:c:come:9 signal:d:pager:9 invoke:e:g:9 sleep:s:99"
    planned = transition(world.tables[0], read_record(f"plan r1 {plans}", 11, "", world.run_of), 11)
    entries = [change.record for change in planned.changes if isinstance(change, Send)]
    details = {entry.step: entry.detail for entry in entries if isinstance(entry, StepPlanned)}
    assert details == {"a": "come data.id", "b": "come async.data.x>1", "c": "come", "d": "pager", "e": "g", "s": ""}


def test_an_event_never_overtakes_a_wait() -> None:
    """With many shards an event goes through the log to the shard of its name, even from that shard.

    A wait that another shard sent there may be committed and not yet readable, behind an open transaction.
    """
    event = EventReceived(EventRecord("come", ts=5), "events-0-0", 5)
    for shard in range(5):
        (sent,) = transition(Tables(), event, 10, shard=shard, shards=5).changes
        assert isinstance(sent, Send)
        assert isinstance(sent.record, EventRouted)
        assert not is_local(sent, shard)
    (alone,) = transition(Tables(), event, 10).changes
    assert isinstance(alone, Send)
    assert is_local(alone, 0)
