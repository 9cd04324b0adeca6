"""Limits that sub-queues share by their weights, as record tables: whatever waits in one delays no other."""

from tests.engine.tables import table


@table()
def test_sub_queues_share_a_limit() -> None:
    """The one that floods the limit delays another one by one run; no row of them is left after that.

    10 | function f on=go concurrency=1 fair=event.data.t | -
    10 | event go {"t":"a"} | began r1 f queued; admitted r1 after 0; start r1
    11 | event go {"t":"a"} | began r2 f queued
    12 | event go {"t":"a"} | began r3 f queued
    13 | event go {"t":"b"} | began r4 f queued
    20 | return r1 =1       | completed r1 =1; emit stream/function.finished#r1:finished;
       |                    | admitted r4 after 7; start r4
    21 | return r4 =1       | completed r4 =1; emit stream/function.finished#r4:finished;
       |                    | admitted r2 after 10; start r2
    22 | event go {"t":"b"} | began r5 f queued
    30 | return r2 =1       | completed r2 =1; emit stream/function.finished#r2:finished;
       |                    | admitted r5 after 8; start r5
    31 | return r5 =1       | completed r5 =1; emit stream/function.finished#r5:finished;
       |                    | admitted r3 after 19; start r3
    31 | rows GateShare     | 2
    32 | return r3 =1       | completed r3 =1; emit stream/function.finished#r3:finished
    32 | rows GateState     | 0
    32 | rows GateShare     | 0
    32 | rows GateTag      | 0
    32 | rows ShareWaiter   | 0
    """


@table()
def test_a_sub_queue_has_its_share_by_weight() -> None:
    """Two of three starts with a weight of 2. A weight that is not a positive number counts as 1.

    10 | function f on=go throttle=1:10 fair=event.data.t weight=event.data.w | -
    10 | event go {"t":"a","w":2} | began r1 f queued; admitted r1 after 0; start r1
    10 | event go {"t":"b","w":0} | began r2 f queued
    10 | event go {"t":"b"}       | began r3 f queued
    10 | event go {"t":"a","w":2} | began r4 f queued
    10 | event go {"t":"a","w":2} | began r5 f queued
    10 | event go {"t":"a","w":2} | began r6 f queued
    10 | count gate_key_errors    | 2
    20 | tick                     | admitted r2 after 10; start r2
    30 | tick                     | admitted r4 after 20; start r4
    40 | tick                     | admitted r3 after 30; start r3
    50 | tick                     | admitted r5 after 40; start r5
    60 | tick                     | admitted r6 after 50; start r6
    70 | tick                     | -
    70 | rows GateState           | 0
    70 | rows GateTag            | 0
    """


@table()
def test_a_priority_counts_within_a_sub_queue() -> None:
    """It moves a run forward among those of its sub-queue, and costs the others nothing.

    10 | function f on=go concurrency=1 fair=event.data.t priority=event.data.p | -
    10 | event go {"t":"a","p":0} | began r1 f queued; admitted r1 after 0; start r1
    11 | event go {"t":"a","p":0} | began r2 f queued
    12 | event go {"t":"a","p":9} | began r3 f queued
    13 | event go {"t":"b","p":0} | began r4 f queued
    20 | return r1 =1             | completed r1 =1; emit stream/function.finished#r1:finished;
       |                          | admitted r4 after 7; start r4
    21 | return r4 =1             | completed r4 =1; emit stream/function.finished#r4:finished;
       |                          | admitted r3 after 9; start r3
    22 | event go {"t":"a","p":99} | began r5 f queued
    23 | return r3 =1             | completed r3 =1; emit stream/function.finished#r3:finished;
       |                          | admitted r5 after 1; start r5
    24 | return r5 =1             | completed r5 =1; emit stream/function.finished#r5:finished;
       |                          | admitted r2 after 13; start r2
    """


@table()
def test_a_run_that_is_cancelled_while_it_waits_costs_nothing() -> None:
    """After a flood is cancelled, its sub-queue is served as if the flood had never arrived.

    10 | function f on=go concurrency=1 fair=event.data.t | -
    10 | event go {"t":"b"} | began r1 f queued; admitted r1 after 0; start r1
    11 | event go {"t":"a"} | began r2 f queued
    12 | event go {"t":"a"} | began r3 f queued
    13 | event go {"t":"a"} | began r4 f queued
    14 | event go {"t":"b"} | began r5 f queued
    15 | cancel r2          | cancelled r2 !run-cancelled; stop r2 cancelled;
       |                    | emit stream/function.finished#r2:finished; emit stream/function.cancelled#r2:cancelled
    15 | cancel r3          | cancelled r3 !run-cancelled; stop r3 cancelled;
       |                    | emit stream/function.finished#r3:finished; emit stream/function.cancelled#r3:cancelled
    16 | return r1 =1       | completed r1 =1; emit stream/function.finished#r1:finished;
       |                    | admitted r4 after 3; start r4
    17 | event go {"t":"a"} | began r6 f queued
    18 | cancel r6          | cancelled r6 !run-cancelled; stop r6 cancelled;
       |                    | emit stream/function.finished#r6:finished; emit stream/function.cancelled#r6:cancelled
    19 | return r4 =1       | completed r4 =1; emit stream/function.finished#r4:finished;
       |                    | admitted r5 after 5; start r5
    20 | return r5 =1       | completed r5 =1; emit stream/function.finished#r5:finished
    20 | rows GateShare     | 0
    20 | rows GateTag      | 0
    """


@table()
def test_a_limit_that_becomes_fair_lets_those_that_waited_pass_first() -> None:
    """When it is no longer fair, runs that ask join the sub-queues, in one of their own, until these are empty.

    10 | function f on=go concurrency=1 | -
    10 | event go {"t":"a"} | began r1 f queued; admitted r1 after 0; start r1
    11 | event go {"t":"a"} | began r2 f queued
    12 | function f on=go concurrency=1 fair=event.data.t | -
    13 | event go {"t":"a"} | began r3 f queued
    14 | event go {"t":"a"} | began r4 f queued
    15 | event go {"t":"b"} | began r5 f queued
    16 | limit-of r5        | concurrency f: 1/1, by r1, 4 waiting since 11: r2 r3 r5 r4, place 3
    16 | return r1 =1       | completed r1 =1; emit stream/function.finished#r1:finished;
       |                    | admitted r2 after 5; start r2
    17 | return r2 =1       | completed r2 =1; emit stream/function.finished#r2:finished;
       |                    | admitted r3 after 4; start r3
    18 | function f on=go concurrency=1 | -
    19 | event go {"t":"b"} | began r6 f queued
    20 | rows GateWaiter    | 0
    20 | limit-of r6        | concurrency f: 1/1, by r3, 3 waiting since 15: r5 r6 r4, place 2
    21 | return r3 =1       | completed r3 =1; emit stream/function.finished#r3:finished;
       |                    | admitted r5 after 6; start r5
    22 | return r5 =1       | completed r5 =1; emit stream/function.finished#r5:finished;
       |                    | admitted r6 after 3; start r6
    23 | return r6 =1       | completed r6 =1; emit stream/function.finished#r6:finished;
       |                    | admitted r4 after 9; start r4
    24 | return r4 =1       | completed r4 =1; emit stream/function.finished#r4:finished
    24 | event go {"t":"b"} | began r7 f queued; admitted r7 after 0; start r7
    24 | rows GateShare     | 0
    """


@table()
def test_numbers_of_an_operator_change_no_order() -> None:
    """A limit that is paused, raised and reset lets runs pass in the same order.

    10 | function f on=go concurrency=1 fair=event.data.t | -
    10 | event go {"t":"a"} | began r1 f queued; admitted r1 after 0; start r1
    11 | event go {"t":"a"} | began r2 f queued
    12 | event go {"t":"a"} | began r3 f queued
    13 | event go {"t":"b"} | began r4 f queued
    14 | pause-limit concurrency_f | -
    15 | return r1 =1       | completed r1 =1; emit stream/function.finished#r1:finished
    16 | set-limit concurrency_f 2 | -
    17 | resume-limit concurrency_f | -
    17 | tick               | admitted r4 after 4; start r4; admitted r2 after 6; start r2
    18 | reset-limit concurrency_f | -
    19 | event go {"t":"b"} | began r5 f queued
    20 | return r4 =1       | completed r4 =1; emit stream/function.finished#r4:finished
    21 | return r2 =1       | completed r2 =1; emit stream/function.finished#r2:finished;
       |                    | admitted r5 after 2; start r5
    """


@table()
def test_fairness_applies_at_the_shared_limit() -> None:
    """A run that waits for the limit of its tenant has no place at the shared one yet.

    10 | function f on=go concurrency=2:event.data.t;1::shared fair=event.data.t | -
    10 | event go {"t":"a"} | began r1 f queued; admitted r1 after 0; start r1
    11 | event go {"t":"a"} | began r2 f queued
    12 | event go {"t":"a"} | began r3 f queued
    13 | event go {"t":"b"} | began r4 f queued
    13 | limit shared       | shared: 1/1, by r1, 2 waiting since 13: r4 r2
    20 | return r1 =1       | completed r1 =1; emit stream/function.finished#r1:finished;
       |                    | admitted r4 after 7; start r4
    20 | limit shared       | shared: 1/1, by r4, 2 waiting since 11: r2 r3
    """


@table()
def test_runs_without_a_sub_queue_share_one() -> None:
    """The expression fails, or has no text, number or bool.

    10 | function f on=go concurrency=1 fair=event.data.t | -
    10 | event go {"t":"a"} | began r1 f queued; admitted r1 after 0; start r1
    11 | event go           | began r2 f queued
    12 | event go {"t":[]}  | began r3 f queued
    13 | event go {"t":"b"} | began r4 f queued
    13 | count gate_key_errors | 2
    13 | limit-of r3        | concurrency f: 1/1, by r1, 3 waiting since 11: r2 r4 r3, place 3
    """


@table()
def test_a_sub_queue_pays_for_what_a_body_has_used() -> None:
    """A body of tenant a uses three units instead of one, so two bodies of tenant b precede its next one.

    10 | function f on=go   | -
    10 | event go {"t":"a"} | began r1 f; start r1
    10 | event go {"t":"b"} | began r2 f; start r2
    10 | plan r1 run:a::tok/10/100//event.data.t:1 | planned a until 0; resume r1 a#0
    10 | plan r1 run:b::tok/10/100//event.data.t:1 | planned b until 0
    10 | report r1 a =1 used=3 | kept a=1
    11 | plan r2 run:a::tok/10/100//event.data.t:1 | planned a until 0
    12 | plan r2 run:b::tok/10/100//event.data.t:1 | planned b until 0
    40 | tick               | resume r2 a#0
    50 | tick               | resume r2 b#0
    60 | tick               | resume r1 b#0
    70 | tick               | -
    70 | rows GateState     | 0
    70 | rows GateTag      | 0
    """
