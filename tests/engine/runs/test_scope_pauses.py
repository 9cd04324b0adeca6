"""Pauses of functions and queues, as record tables: what they hold continues once, and nothing else notices them."""

from stepstream.contract.limits import SCOPE_CHANGES_KEPT_MAX, Limits
from stepstream.contract.operators.control import Pause
from stepstream.engine.state.scope_rows import ScopeChange, ScopeChanges
from stepstream.engine.state.tables import SCOPE_CHANGES
from tests.engine.tables import Line, World, table


def changes_of(world: World, shard: int) -> tuple[ScopeChange, ...]:
    """Return what a shard knows of the changes of the pause of the function f."""
    row = world.tables[shard].get(SCOPE_CHANGES.key(b"", b"function:f"))
    assert isinstance(row, ScopeChanges)
    return row.changes


@table()
def test_runs_of_a_paused_function_are_accepted_and_start_afterwards() -> None:
    """Runs of other functions start. A run that waits needs nothing, and misses no result.

    10 | function f on=go                    | -
    10 | function g on=go                    | -
    10 | event go e1                         | began r1 f; start r1; began r2 g; start r2
    11 | plan r1 sleep:a:20                  | planned a until 20
    12 | pause-scope function:f reply=R      | reply R paused
    13 | event go e2                         | began r3 f; began r4 g; start r4
    13 | rerun old f q1 reply=S go e3        | began r5 f of old; reply S r5
    14 | report r1 b =1                      | kept b=1
    15 | claim r3 c1                         | stop r3 paused
    16 | lost app                            | resume r2; resume r4
    17 | lost app                            | resume r2; resume r4
    20 | tick                                | kept a=null
    21 | resume-scope function:f reply=R     | reply R resumed; reload r1; reload r3; reload r5
    22 | resume-scope function:f reply=R     | reply R not_paused
    23 | claim r1 c2                         | moved to epoch 2; load r1 for c2 b=1 a=null
    24 | claim r3 c3                         | moved to epoch 2; load r3 for c3
    25 | rows ScopePause                     | 0
    """


@table()
def test_a_pause_of_a_function_ends_when_its_time_has_come() -> None:
    """It may be changed; the same request again changes nothing.

    10 | function f on=go                       | -
    10 | pause-scope function:f until=50 reply=R | reply R paused
    11 | pause-scope function:f until=50 reply=R | reply R paused
    12 | pause-scope function:f until=30        | -
    13 | event go e1                            | began r1 f
    30 | tick                                   | reload r1
    50 | tick                                   | -
    51 | rows Timer                             | 0
    """


def test_every_shard_keeps_who_changed_a_pause_and_why() -> None:
    """The latest changes stay after the pause, also those that time made; no request that changes nothing is one."""
    world = World(3)
    for line in (
        Line(10, "pause-scope function:f", ""),
        Line(11, "pause-scope function:f", ""),
        Line(12, "resume-scope function:f by=bob why=bank_is_back", ""),
        Line(13, "resume-scope function:f by=eve", ""),
        Line(14, "pause-scope function:f until=20", ""),
        Line(20, "tick", ""),
    ):
        world.play(line)
    expected = (
        ScopeChange(20),
        ScopeChange(14, Pause(20, "ann", "fix"), "ann", "fix"),
        ScopeChange(12, None, "bob", "bank is back"),
        ScopeChange(10, Pause(0, "ann", "fix"), "ann", "fix"),
    )
    assert [changes_of(world, shard) for shard in range(3)] == [expected] * 3
    for at in range(SCOPE_CHANGES_KEPT_MAX):
        world.play(Line(30 + at, f"pause-scope function:f until={90 + at}", ""))
    latest = changes_of(world, 0)
    assert (len(latest), latest[-1].at) == (SCOPE_CHANGES_KEPT_MAX, 30)


@table()
def test_attempts_of_a_paused_function_follow_its_pause() -> None:
    """A scheduled run, an attempt of the code, and an attempt of a step that was due during the pause.

    10 | function f on=go              | -
    10 | event go e1                   | began r1 f; start r1
    10 | event go e2 ts=20             | began r2 f for 20
    10 | event go e3                   | began r3 f; start r3
    11 | raise r1 retry=10             | attempt 0 failed, next 21
    11 | fail r3 a retry=10            | attempt 0 of a failed, next 21
    12 | pause-scope function:f        | -
    20 | tick                          | -
    21 | tick                          | -
    22 | claim r1 c1                   | stop r1 waiting
    30 | resume-scope function:f       | reload r3
    30 | tick                          | start r2; resume r1
    31 | claim r3 c2                   | moved to epoch 2; load r3 for c2 a#1!
    32 | rows Timer                    | 0
    """


@table()
def test_a_run_and_its_function_may_both_be_paused() -> None:
    """The run continues when both pauses have ended, in either order.

    10 | function f on=go              | -
    10 | event go e1                   | began r1 f; start r1
    10 | event go e2                   | began r2 f; start r2
    11 | pause r1                      | paused by ann until 0; reload r1
    11 | pause r2 until=30             | paused by ann until 30; reload r2
    12 | pause-scope function:f        | -
    13 | unpause r1                    | unpaused by ann
    14 | claim r1 c1                   | stop r1 paused
    15 | claim r2 c1                   | stop r2 paused
    16 | resume-scope function:f       | reload r1
    17 | pause-scope function:f        | -
    30 | tick                          | unpaused by time
    31 | resume-scope function:f       | reload r2
    32 | claim r2 c2                   | moved to epoch 2; load r2 for c2
    """


@table()
def test_a_held_run_may_fail_and_be_paused() -> None:
    """The end of the pause of its function continues the attempt that was due, unless the run is paused.

    10 | function f on=go              | -
    10 | event go e1                   | began r1 f; start r1
    11 | pause-scope function:f        | -
    12 | plan r1 sleep:a:1             | kept a=null
    13 | raise r1 retry=10             | attempt 0 failed, next 23
    14 | event go e2                   | began r2 f
    15 | pause r2                      | paused by ann until 0; reload r2
    23 | tick                          | -
    24 | resume-scope function:f       | -
    24 | tick                          | resume r1
    25 | unpause r2                    | unpaused by ann; reload r2
    26 | claim r2 c1                   | moved to epoch 2; load r2 for c1
    """


@table()
def test_steps_of_a_paused_queue_are_dispatched_afterwards() -> None:
    """Those of other queues are dispatched at once, and a body that runs may end.

    10 | function f on=go queues=gpu;cpu         | -
    10 | event go e1                             | began r1 f; start r1
    11 | plan r1 run:a:gpu run:b:gpu             | planned a until 0; dispatch r1 a#0;
       |                                         | planned b until 0; dispatch r1 b#0
    12 | pause-scope queue:app.gpu               | -
    13 | report r1 a =1 queue=gpu                | kept a=1; resume r1 a=1
    14 | fail r1 b queue=gpu retry=5             | attempt 0 of b failed, next 19
    15 | plan r1 run:c:gpu run:d:cpu             | planned c until 15; planned d until 0; dispatch r1 d#0 a=1
    15 | tick                                    | -
    19 | tick                                    | -
    20 | resume-scope queue:app.gpu              | -
    20 | tick                                    | dispatch r1 c#0 a=1; dispatch r1 b#1 a=1
    21 | rows Timer                              | 0
    """


@table(Limits(waits_per_match_max=2))
def test_many_held_runs_continue_over_several_batches() -> None:
    """A transition continues a bounded number of runs. A pause meanwhile ends that, and its own end continues the rest.

    10 | function f on=go                    | -
    10 | pause-scope function:f              | -
    11 | event go e1                         | began r1 f
    12 | event go e2                         | began r2 f
    13 | event go e3                         | began r3 f
    14 | event go e4                         | began r4 f
    15 | event go e5                         | began r5 f
    20 | resume-scope function:f             | reload r1; reload r2; reload r3; reload r4; reload r5
    21 | resume-scope function:f             | -
    """
