"""Random records with random delays between shards: whatever the order, no permit is lost, and each run starts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.contract.codec import NULL
from stepstream.contract.gates import GateGranted
from stepstream.contract.inbox import RunContinued, RunReturned
from stepstream.contract.limits import DAY_MS, PATH_USED_MS, Limits
from stepstream.contract.operators.control import UnpauseRequested
from stepstream.engine.state.gate_rows import GateState
from stepstream.engine.state.lifecycle import state_of_run
from stepstream.engine.state.records import Input
from stepstream.engine.state.rows import OpenStep, Run
from tests.engine.delayed import Delayed
from tests.engine.tables import Line

SHARDS = 3
FUNCTIONS = (
    "function f on=go concurrency=1:event.data.id;2::shared",
    "function f on=go concurrency=2:event.data.id;3::shared throttle=2:20:1",
    "function f on=go concurrency=1::shared start=60",
    "function f on=go concurrency=3::shared throttle=2:20 fair=event.data.id weight=event.data.id",
    "function f on=go singleton=cancel:event.data.id concurrency=3::shared",
    "function f on=go idempotency=event.data.id:30 rate=2:20 singleton=skip concurrency=3::shared",
    "function f on=go batch=3:20:event.data.id concurrency=3::shared",
    "function f on=go",
)
ENDS: dict[str, type[RunReturned | RunContinued]] = {"return": RunReturned, "continue": RunContinued}
RECORDS = (
    *('event go {"id":1}', 'event go {"id":2}', 'event go {"id":1} ts=90') * 3,
    *("tick", "pause-scope function:f", "resume-scope function:f", "return", "continue", "lost app") * 2,
    *("set-limit shared 3", "set-limit shared 1 until=50", "reset-limit shared", "pause-limit shared"),
    *("set-limit concurrency_f 3 key=1", "pause-limit throttle_f until=60", "resume-limit shared"),
    *("pause RUN", "pause RUN until=50", "unpause RUN", "cancel RUN", "claim RUN c1", "rerun r99 f QUERY go a:=1"),
)

RESETS = ("reset-limit shared", "reset-limit concurrency_f key=1", "reset-limit throttle_f")


@st.composite
def lines(draw: st.DrawFn) -> str:
    """Draw a record in the notation of the tables; the first run that may run code returns or continues as new."""
    text = draw(st.sampled_from((*RECORDS, *RECORDS, *FUNCTIONS)))
    number = draw(st.integers(1, 8))
    return text.replace("RUN", f"r{number}").replace("QUERY", f"q{number}")


def open_runs(world: Delayed) -> list[Run]:
    """Return the runs that have not ended."""
    return [row for tables in world.tables for key in tables.rows if isinstance(row := tables.get(key), Run)]


def ends(world: Delayed, kind: type[RunReturned | RunContinued] = RunReturned) -> list[Input]:
    """Return the ends of the runs that may run code."""
    active = [run for run in open_runs(world) if state_of_run(run) == "active" and not run.held]
    return [kind(run.run_id, run.epoch, NULL) for run in active]


def check_permits(world: Delayed) -> None:
    """Check that no gate has more holders than its limit, or than the highest that it may have had before."""
    for tables in world.tables:
        for key in tables.rows:
            row = tables.get(key)
            if isinstance(row, GateState) and row.gate.has_permits:
                assert row.held <= max(row.gate.limit, 3), row


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(lines(), st.integers(0, 9), st.lists(st.integers(0, 99), max_size=8)), min_size=9, max_size=40),
    st.sampled_from([1, 500]),
)
def test_no_order_between_shards_loses_a_permit(sequence: list[tuple[str, int, list[int]]], at_once: int) -> None:
    """Pauses, cancellations, changed limits and time come at any moment; later each run that is left starts and ends.

    No row of a gate is left after that.
    """
    world = Delayed(SHARDS, Limits(waits_per_match_max=at_once))
    world.begin()
    world.play(Line(10, FUNCTIONS[0], ""))
    now = 10
    for record, passed, arrivals in sequence:
        now += passed
        if record in ENDS:
            world.take(ends(world, ENDS[record])[:1], now)
        else:
            world.play(Line(now, record, ""))
        for choice in arrivals:
            world.deliver(choice, now)
        check_permits(world)
    world.deliver_all(now)
    for record in ("resume-scope function:f", *RESETS):
        world.play(Line(now, record, ""))
    world.deliver_all(now)
    world.take([UnpauseRequested(run.run_id, "ann") for run in open_runs(world) if run.paused], now)
    for _ in range(40):
        now += 20
        world.take([*world.ticks(now), *ends(world)], now)
        world.deliver_all(now)
    assert open_runs(world) == []
    now += PATH_USED_MS + DAY_MS
    while ticks := world.ticks(now):
        world.take(ticks, now)
        world.deliver_all(now)
    assert world.left() == []
    assert all(count == 1 for count in world.lives.values())


def started_steps(world: Delayed) -> list[OpenStep]:
    """Return the open steps whose bodies may run."""
    steps = [row for tables in world.tables for key in tables.rows if isinstance(row := tables.get(key), OpenStep)]
    return [step for step in steps if step.started]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=30, max_size=30))
def test_a_grant_for_a_dropped_step_does_not_start_the_next(choices: list[int]) -> None:
    """A step is dropped and planned again while its grant is on its way: the permit is returned, and starts nothing."""
    world = Delayed(SHARDS)
    world.begin()
    for record in ("function f on=go steps=1::x", "event go {} e3", "event go {} e5"):
        world.play(Line(10, record, ""))
        world.deliver_all(10)
    world.play(Line(11, "plan r3 run:a", ""))
    while not any(isinstance(each, GateGranted) for log in world.logs.values() for each in log):
        world.deliver(0, 11)
    for record in ("plan r3 cancel=a", "plan r3 run:a", "plan r4 run:b"):
        world.play(Line(12, record, ""))
    counts = [len(started_steps(world))]
    for choice in choices:
        world.deliver(choice, 13)
        counts.append(len(started_steps(world)))
    assert counts[-1] == max(counts) == 1
