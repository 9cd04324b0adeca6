"""Commands that were lost with their topic, as record tables: workers claim what they need to continue each run."""

from dataclasses import replace

from stepstream.contract.limits import DEFAULT_LIMITS
from tests.engine.tables import Line, World, table


@table()
def test_an_open_run_is_claimed_after_commands_were_lost() -> None:
    """Which of its commands were lost is not known: the claim gets all of the run, and older reports do not count.

    10 | function f on=go       | -
    10 | event go e1            | began r1 f; start r1
    11 | plan r1 sleep:a:20     | planned a until 20
    20 | tick                   | kept a=null; resume r1 a=null
    21 | lost app               | resume r1
    22 | claim r1 c1            | moved to epoch 2; load r1 for c1 a=null
    23 | report r1 b =1         | -
    24 | return r1 =1 epoch=2   | completed r1 =1; emit stream/function.finished#r1:finished
    25 | lost app               | -
    """


@table()
def test_a_leased_run_is_claimed_when_its_lease_ends() -> None:
    """A worker that still runs a body keeps the run; its report counts.

    10 | function f on=go | -
    10 | event go e1      | began r1 f; start r1
    11 | lease r1 for=100 | -
    12 | lost app         | resume r1
    13 | claim r1 c1      | -
    14 | report r1 a =1   | kept a=1
    15 | lease r1         | moved to epoch 2; load r1 for c1 a=1
    """


@table()
def test_a_run_that_is_due_later_is_not_sent_again() -> None:
    """Its command is sent when it is due. Workers of another app, or of none, get nothing.

    10  | function f on=go             | -
    10  | event go e1                  | began r1 f; start r1
    11  | lost other                   | -
    11  | lost ap                      | -
    11  | lost app.gpu                 | -
    12  | raise r1 attempt=0 retry=100 | attempt 0 failed, next 112
    13  | lost app                     | -
    112 | tick                         | resume r1
    """


@table()
def test_a_dispatched_step_is_claimed_after_commands_were_lost() -> None:
    """It is for the workers of its queue; without a claim they do not run it, since one of them may still do.

    10 | function f on=go queues=gpu;cpu       | -
    10 | event go e1                           | began r1 f; start r1
    11 | plan r1 run:a:gpu run:b:cpu           | planned a until 0; dispatch r1 a#0; planned b until 0; dispatch r1 b#0
    12 | lost app.gpu                          | dispatch r1 a#0 partial
    13 | claim-step r1 a c1 queue=gpu          | dispatch r1 a#0 for c1
    14 | lost app.gpu                          | dispatch r1 a#0 partial
    15 | report r1 a =1 queue=gpu claim=c1     | kept a=1; resume r1 a=1
    16 | lost app.gpu                          | -
    """


def test_many_runs_are_sent_again_over_several_batches() -> None:
    """A transition reads a bounded number of runs, and continues after the last one."""
    world = World(1, replace(DEFAULT_LIMITS, waits_per_match_max=1))
    for line in ("function f on=go", "event go e1", "event go e2", "event go e3"):
        world.play(Line(10, line, ""))
    assert sorted(world.play(Line(11, "lost app", ""))) == ["resume r1", "resume r2", "resume r3"]
