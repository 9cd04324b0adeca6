"""Limits that a deployment lowers while runs are open."""

import pytest

from stepstream.contract.limits import Limits
from tests.engine.tables import SHARDS, World, read_table

BEFORE = """
    10 | function f on=go concurrency=1 | -
    10 | event go         | began r1 f queued; admitted r1 after 0; start r1
    11 | report r1 a =1   | kept a=1
    12 | report r1 b =2   | kept b=2
    13 | rerun r9 f q1 go e1 a:=1 b:=2 | began r2 f of r9 queued; copied a=1; copied b=2
"""
AFTER = """
    20 | pause r1         | paused by ann until 0; reload r1
    21 | unpause r1       | unpaused by ann; reload r1
    22 | set r1 {"n":1}   | attributes {"n":1}
    23 | report r1 c =3   | failed r1 !step-limit; stop r1 failed; emit stream/function.finished#r1:finished;
       |                  | emit stream/function.failed#r1:failed; admitted r2 after 10; resume r2
    24 | return r2 =1     | completed r2 =1; emit stream/function.finished#r2:finished
"""


@pytest.mark.parametrize("shards", SHARDS)
def test_a_run_beyond_lowered_limits_ends_when_it_grows(shards: int) -> None:
    """Operators can still pause it, its code can end, and a queued one starts and returns its permit."""
    world = World(shards)
    for text in (BEFORE, AFTER):
        for line in read_table(text):
            expected = [words for part in line.expected.split(";") if (words := part.strip()) not in ("", "-")]
            assert sorted(world.play(line)) == sorted(expected), line
        world.limits = Limits(steps_per_run_max=1)
    assert world.count_rows("GateRun") == 0
