"""Limits that operators change at run time, as record tables: what waits starts at once, and nothing is interrupted."""

from stepstream.contract.limits import LIMIT_CHANGES_KEPT_MS, Limits
from tests.engine.tables import Line, World, table


@table()
def test_a_raised_limit_lets_runs_that_wait_start_at_once() -> None:
    """The number of the operator counts, and not that in code, which the next request brings. A reset ends that.

    10 | function f on=go concurrency=1::one | -
    10 | event go                 | began r1 f queued; admitted r1 after 0; start r1
    11 | event go                 | began r2 f queued
    12 | event go                 | began r3 f queued
    13 | event go                 | began r4 f queued
    20 | set-limit one 3 reply=R  | reply R changed
    20 | tick                     | admitted r2 after 9; start r2; admitted r3 after 8; start r3
    21 | limit one                | one: 3/3, by r1 r2 r3, 1 waiting since 13: r4; changed one: 3 by set@20
    22 | event go                 | began r5 f queued
    30 | reset-limit one reply=R  | reply R changed
    31 | reset-limit one reply=R  | reply R unchanged
    40 | return r1 =1             | completed r1 =1; emit stream/function.finished#r1:finished
    41 | return r2 =1             | completed r2 =1; emit stream/function.finished#r2:finished
    42 | return r3 =1             | completed r3 =1; emit stream/function.finished#r3:finished;
       |                          | admitted r4 after 29; start r4
    43 | limit one                | one: 1/1, by r4, 1 waiting since 22: r5; changed one: by reset@30 set@20
    """


@table()
def test_a_limit_for_a_key_is_stronger_than_one_for_the_name() -> None:
    """Each of them applies on all shards; the end of the one for the key leaves the other.

    10 | function f on=go concurrency=1:event.data.t:one | -
    10 | event go {"t":"a"}  | began r1 f queued; admitted r1 after 0; start r1
    11 | event go {"t":"b"}  | began r2 f queued; admitted r2 after 0; start r2
    12 | event go {"t":"a"}  | began r3 f queued
    13 | event go {"t":"b"}  | began r4 f queued
    14 | event go {"t":"b"}  | began r5 f queued
    15 | event go {"t":"a"}  | began r6 f queued
    20 | set-limit one 3 key=b | -
    20 | tick                | admitted r4 after 7; start r4; admitted r5 after 6; start r5
    21 | set-limit one 2     | -
    21 | tick                | admitted r3 after 9; start r3
    22 | limits              | one of a: 2/2, by r1 r3, 1 waiting since 15: r6; one of b: 3/3, by r2 r4 r5;
       |                     | changed one: 2 by set@21; changed one of b: 3 by set@20
    23 | reset-limit one key=b | -
    24 | limit one key=b     | one of b: 3/2, by r2 r4 r5; changed one of b: by reset@23 set@20;
       |                     | changed one: 2 by set@21
    """


@table()
def test_a_paused_limit_grants_nothing() -> None:
    """Runs wait in order, also those that find it free. A run that ends returns its permit.

    10 | function f on=go concurrency=2::two | -
    10 | event go                | began r1 f queued; admitted r1 after 0; start r1
    11 | pause-limit two reply=R | reply R changed
    12 | event go                | began r2 f queued
    13 | event go                | began r3 f queued
    14 | return r1 =1            | completed r1 =1; emit stream/function.finished#r1:finished
    15 | set-limit two 1         | -
    15 | tick                    | -
    15 | limit-of r3             | two: 0/1 paused, 2 waiting since 12: r2 r3, place 2;
       |                         | changed two: 1 paused by set@15 pause@11
    20 | resume-limit two reply=R | reply R changed
    20 | tick                    | admitted r2 after 8; start r2
    21 | resume-limit two reply=R | reply R unchanged
    """


@table()
def test_a_change_ends_when_its_time_has_come() -> None:
    """A pause and numbers may end at different times; a later request replaces the end of an earlier one.

    10 | function f on=go concurrency=1::one | -
    10 | event go                 | began r1 f queued; admitted r1 after 0; start r1
    11 | event go                 | began r2 f queued
    12 | event go                 | began r3 f queued
    13 | event go                 | began r4 f queued
    20 | pause-limit one until=90 | -
    21 | pause-limit one until=40 | -
    22 | set-limit one 3 until=50 | -
    39 | tick                     | -
    40 | tick                     | -
    40 | tick                     | admitted r2 after 29; start r2; admitted r3 after 28; start r3
    50 | tick                     | -
    51 | limit one                | one: 3/1, by r1 r2 r3, 1 waiting since 13: r4;
       |                          | changed one: by expire@50 expire@40 set@22 pause@21 pause@20
    90 | tick                     | -
    """


@table()
def test_starts_in_a_period_follow_the_operator() -> None:
    """A higher rate does not wait for the period of the lower one, and a pause stops the timer of the next start.

    10  | function f on=go throttle=1:1000 | -
    10  | event go                | began r1 f queued; admitted r1 after 0; start r1
    11  | event go                | began r2 f queued
    12  | event go                | began r3 f queued
    13  | event go                | began r4 f queued
    20  | set-limit throttle_f 10 | -
    20  | limit-of r2             | throttle f: 10 in 1000, next 120, 3 waiting since 11: r2 r3 r4, place 1;
        |                         | changed throttle f: 10 by set@20
    120 | tick                    | admitted r2 after 109; start r2
    150 | pause-limit throttle_f  | -
    220 | tick                    | -
    230 | limit-of r3             | throttle f: 10 in 1000 paused, 2 waiting since 12: r3 r4, place 1;
        |                         | changed throttle f: 10 paused by pause@150 set@20
    300 | resume-limit throttle_f | -
    300 | tick                    | admitted r3 after 288; start r3
    310 | set-limit throttle_f 10 period=100 burst=1 | -
    320 | tick                    | admitted r4 after 307; start r4
    """


def test_a_change_is_forgotten_after_a_while() -> None:
    """Its log remains for a time after the limit is as in code again; then no shard has a row."""
    for shards in (1, 5):
        world = World(shards)
        world.play(Line(10, "set-limit one 3 until=20", ""))
        assert world.count_rows("LimitSetting") == shards
        world.play(Line(20, "tick", ""))
        assert world.count_rows("LimitSetting") == shards
        world.play(Line(20 + LIMIT_CHANGES_KEPT_MS, "tick", ""))
        assert world.count_rows("LimitSetting") == world.count_rows("Timer") == 0


@table(Limits(waits_per_match_max=2))
def test_many_gates_wake_over_several_batches() -> None:
    """A transition wakes a bounded number of them, and leaves those of other names.

    10 | function f on=go concurrency=1:event.data.t:one | -
    10 | function g on=too concurrency=1::other          | -
    10 | pause-limit one    | -
    10 | pause-limit other  | -
    11 | event go {"t":"a"} | began r1 f queued
    12 | event go {"t":"b"} | began r2 f queued
    13 | event go {"t":"c"} | began r3 f queued
    14 | event go {"t":"d"} | began r4 f queued
    15 | event go {"t":"e"} | began r5 f queued
    16 | event too          | began r6 g queued
    20 | resume-limit one   | -
    20 | tick               | admitted r1 after 9; start r1; admitted r2 after 8; start r2; admitted r3 after 7;
       |                    | start r3; admitted r4 after 6; start r4; admitted r5 after 5; start r5
    """
