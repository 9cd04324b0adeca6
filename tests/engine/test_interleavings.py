"""Random records with random delays between shards: the invariants hold in every order."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.contract.inbox import CancelRequested
from stepstream.contract.limits import DAY_MS, PATH_USED_MS, Limits
from stepstream.engine.state.rows import Run
from tests.engine.delayed import Delayed
from tests.engine.tables import Line

# With three shards, those of the runs, of the name and of the buckets differ.
SHARDS = 3
STEPS = ("a", "b", "c")
PLANS = (
    "wait:STEP:come:40:data.id",
    "wait:STEP:come:40:?async.data.id>0",
    "wait:STEP:come:40",
    "signal:STEP:pager:40",
    "signal:STEP:pager:40:replace",
    "invoke:STEP:g:40",
    "invoke:STEP:g:40:cancel",
    "sleep:STEP:60",
    "wait:STEP:come:40:data.id@x",
    "sleep:STEP:50@x",
)
FROM_OUTSIDE = ('event come {"id":1}', 'event come {"id":2}', 'event stop {"id":1}', "signal pager =1", "tick")
OF_A_RUN = ("claim RUN c1", "claim RUN c2", "cancel RUN")
OF_A_WORKER = (
    "plan RUN PLANS",
    "plan RUN wait:STEP:come:40:data.id lookback=50",
    "plan RUN wait:STEP:come:40:?async.data.id>1 lookback=50",
    "plan RUN cancel=STEP",
    "report RUN STEP =1",
    "fail RUN STEP attempt=0 retry=9",
    "raise RUN attempt=0 retry=9",
    "return RUN =1",
)


@st.composite
def lines(draw: st.DrawFn) -> str:
    """Draw a record in the notation of the tables; plans are the most frequent."""
    of_a_worker = st.sampled_from([*OF_A_WORKER[:3], OF_A_WORKER[0]] * 3 + [*OF_A_WORKER]).map(
        lambda text: f"{text} epoch=EPOCH"
    )
    text = draw(st.one_of(of_a_worker, of_a_worker, st.sampled_from(FROM_OUTSIDE + OF_A_RUN)))
    first, second = draw(st.permutations(STEPS))[:2]
    plans = f"{draw(st.sampled_from(PLANS))} {draw(st.sampled_from(PLANS)).replace('STEP', second)}"
    words = {"PLANS": plans, "STEP": first, "RUN": draw(st.sampled_from(["r1", "r1", "r2", "r3"]))}
    words["EPOCH"] = draw(st.sampled_from(["1", "1", "1", "2"]))
    for word, value in words.items():
        text = text.replace(word, value)
    return text


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(lines(), st.integers(0, 9), st.lists(st.integers(0, 99), max_size=6)), max_size=14),
    st.sampled_from([1, 500]),
)
def test_no_order_between_shards_breaks_a_run(sequence: list[tuple[str, int, list[int]]], at_once: int) -> None:
    """Whatever the delays: only known moves, history without gaps, one end per run, and no row left after it.

    The rows of event names and kept events are gone later, deleted in bounded batches.
    """
    world = Delayed(SHARDS, Limits(waits_per_match_max=at_once))
    world.begin()
    now = 10
    for record, passed, arrivals in sequence:
        now += passed
        world.play(Line(now, record, ""))
        for choice in arrivals:
            world.deliver(choice, now)
    world.deliver_all(now)
    while alive := [row for tables in world.tables for key in tables.rows if isinstance(row := tables.get(key), Run)]:
        world.take([CancelRequested(run.run_id) for run in alive], now)
        world.deliver_all(now)
    now += PATH_USED_MS + DAY_MS
    while ticks := world.ticks(now):
        world.take(ticks, now)
        world.deliver_all(now)
    assert world.left() == []
    assert all(count == 1 for count in world.lives.values())
    began, ended = ({run for kind, run in world.lives if kind == name} for name in ("RunBegan", "RunEnded"))
    assert began == ended
