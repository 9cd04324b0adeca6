"""Limits that refuse runs, as record tables: such a run ends as skipped, and no worker gets it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.contract.gates import Excess, Gate, GateAsked, GateGranted
from stepstream.contract.ids import run_hash, run_id_at
from stepstream.engine.state.changes import Send
from stepstream.engine.transition import transition
from tests.engine.tables import table
from tests.fakes.tables import Tables


@table()
def test_runs_beyond_a_rate_are_skipped() -> None:
    """Two in 100 ms are one every 50 ms. A run beyond that sends no command and no event.

    10  | function f on=go rate=2:100 on_failure=h | -
    10  | event go             | began r1 f queued; admitted r1 after 0; start r1
    10  | event go             | began r2 f queued; skipped r2 !rate-limited
    59  | event go             | began r3 f queued; skipped r3 !rate-limited
    60  | event go             | began r4 f queued; admitted r4 after 0; start r4
    61  | count runs_refused f rate-limited | 2
    61  | count runs_ended f skipped        | 2
    61  | rows Run             | 2
    61  | rows RunEvents       | 2
    110 | tick                 | -
    111 | rows GateState       | 0
    """


@table()
def test_a_burst_is_accepted_at_once_after_a_pause() -> None:
    """A burst of two lets three runs pass at once.

    10  | function f on=go rate=1:100:2 | -
    10  | event go             | began r1 f queued; admitted r1 after 0; start r1
    10  | event go             | began r2 f queued; admitted r2 after 0; start r2
    10  | event go             | began r3 f queued; admitted r3 after 0; start r3
    10  | event go             | began r4 f queued; skipped r4 !rate-limited
    110 | event go             | began r5 f queued; admitted r5 after 0; start r5
    """


@table()
def test_a_run_that_invokes_a_skipped_one_gets_its_error() -> None:
    """At once, and as one that it may catch.

    10 | function f rate=1:100     | -
    10 | function g on=go          | -
    10 | event go                  | began r1 g; start r1
    11 | plan r1 invoke:a:f:900 invoke:b:f:900 | planned a until 911; planned b until 911;
       |                           | began r2 f queued; began r3 f queued; admitted r2 after 0; start r2;
       |                           | skipped r3 !rate-limited; kept b!rate-limited; resume r1 b!rate-limited
    """


@table()
def test_a_run_is_refused_before_it_waits() -> None:
    """The rate limit comes before the others: a run that waits for them has passed it.

    10  | function f on=go rate=1:100:1 concurrency=1 | -
    10  | event go             | began r1 f queued; admitted r1 after 0; start r1
    10  | event go             | began r2 f queued
    10  | event go             | began r3 f queued; skipped r3 !rate-limited
    20  | return r1 =1         | completed r1 =1; emit stream/function.finished#r1:finished;
        |                      | admitted r2 after 10; start r2
    """


@table()
def test_runs_of_a_paused_function_are_refused_at_once() -> None:
    """The others start when it is resumed, or ask for their permits then.

    10  | function f on=go rate=1:100 | -
    10  | function g on=too rate=1:100:1 concurrency=1 | -
    10  | pause-scope function:f      | -
    10  | pause-scope function:g      | -
    11  | event go                    | began r1 f queued; admitted r1 after 0
    12  | event go                    | began r2 f queued; skipped r2 !rate-limited
    12  | event too                   | began r3 g queued
    13  | event too                   | began r4 g queued
    13  | event too                   | began r5 g queued; skipped r5 !rate-limited
    200 | resume-scope function:f     | reload r1
    200 | resume-scope function:g     | admitted r3 after 188; start r3
    """


@table()
def test_a_scheduled_run_counts_when_it_is_due() -> None:
    """A pause of the run makes no difference.

    10  | function f on=go rate=1:100 | -
    10  | event go ts=100             | began r1 f for 100 queued
    50  | event go                    | began r2 f queued; admitted r2 after 0; start r2
    100 | tick & pause r1             | paused by ann until 0; skipped r1 !rate-limited
    """


@table()
def test_a_rerun_passes_the_rate_limit_too() -> None:
    """A skipped run can be repeated.

    10  | function f on=go rate=1:100 | -
    10  | event go                    | began r1 f queued; admitted r1 after 0; start r1
    20  | rerun r9 f q1 go e1         | began r2 f of r9 queued; skipped r2 !rate-limited
    110 | rerun r2 f q2 go e1         | began r3 f of r2 queued; admitted r3 after 0; start r3
    """


@table()
def test_what_else_waits_for_a_skipped_run_ends_with_it() -> None:
    """Its timeout, and the events that would cancel it.

    10  | function f on=go rate=1:100 start=50 cancel_on=stop | -
    10  | event go                | began r1 f by 60 queued; admitted r1 after 0; start r1 announced
    10  | execute r1              | executes until 0
    11  | event go                | began r2 f by 61 queued; skipped r2 !rate-limited
    12  | event stop              | cancelled r1 !run-cancelled by stop:p5; stop r1 cancelled;
        |                         | emit stream/function.finished#r1:finished;
        |                         | emit stream/function.cancelled#r1:cancelled
    13  | rows Wait               | 0
    61  | tick                    | -
    """


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 7),
    st.integers(1, 500),
    st.integers(0, 4),
    st.lists(st.integers(0, 400), min_size=1, max_size=40),
)
def test_a_rate_limit_accepts_what_a_leaky_bucket_accepts(
    limit: int, period_ms: int, burst: int, delays: list[int]
) -> None:
    """The generic cell rate algorithm in its other form: a bucket that drains evenly, and overflows at burst + 1."""
    gate = Gate("limit", limit, period_ms=period_ms, burst=burst, excess=Excess.RATE_LIMITED)
    interval_us = max(period_ms * 1_000 // limit, 1)
    tables, now, filled_us = Tables(), 1_000, 0
    for number, delay in enumerate(delays):
        now, filled_us = now + delay, max(filled_us - delay * 1_000, 0)
        changes = transition(tables, GateAsked(gate, run_id_at(now, run_hash("f", str(number)))), now)
        tables.apply(changes)
        (answer,) = [change.record for change in changes.changes if isinstance(change, Send)]
        accepted = filled_us <= burst * interval_us
        filled_us += interval_us * accepted
        assert isinstance(answer, GateGranted) == accepted
