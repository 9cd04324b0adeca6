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
    """A skipped run can be rerun.

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


@table()
def test_the_run_of_the_last_event_starts_after_a_pause() -> None:
    """The runs of earlier events are skipped as the next event comes. Another period begins with the next event.

    10  | function f on=go debounce=50 | -
    10  | event go             | began r1 f queued
    40  | event go             | began r2 f queued; skipped r1 !debounced
    60  | tick                 | -
    89  | tick                 | -
    90  | tick                 | admitted r2 after 50; start r2
    91  | count runs_refused f debounced | 1
    91  | rows GateState       | 0
    91  | rows GateWaiter      | 0
    95  | event go             | began r3 f queued
    145 | tick                 | admitted r3 after 50; start r3
    """


@table()
def test_a_debounce_waits_no_longer_than_its_timeout() -> None:
    """The timeout counts from the first of the events, for each value of the key.

    10  | function f on=go debounce=50:80:event.data.k | -
    10  | event go {"k":1}     | began r1 f queued
    50  | event go {"k":1}     | began r2 f queued; skipped r1 !debounced
    50  | event go {"k":2}     | began r3 f queued
    85  | event go {"k":1}     | began r4 f queued; skipped r2 !debounced
    90  | tick                 | admitted r4 after 5; start r4
    92  | event go {"k":1}     | began r5 f queued
    100 | tick                 | admitted r3 after 50; start r3
    142 | tick                 | admitted r5 after 50; start r5
    """


@table()
def test_an_earlier_event_that_arrives_late_is_debounced() -> None:
    """It is skipped, and the run of the later event waits for another period.

    100 | function f on=go debounce=50 | -
    100 | event go ts=90       | began r1 f queued
    120 | event go ts=80       | began r2 f queued; skipped r2 !debounced
    150 | tick                 | -
    170 | tick                 | admitted r1 after 70; start r1
    """


@table()
def test_a_cancelled_run_is_debounced_no_longer() -> None:
    """The time of the next event counts from that event alone.

    10  | function f on=go debounce=50:60 | -
    10  | event go             | began r1 f queued
    20  | cancel r1 reply=a    | cancelled r1 !run-cancelled; stop r1 cancelled;
        |                      | emit stream/function.finished#r1:finished;
        |                      | emit stream/function.cancelled#r1:cancelled; reply a cancelled
    30  | event go             | began r2 f queued
    60  | tick                 | -
    70  | tick                 | -
    80  | tick                 | admitted r2 after 50; start r2
    """


@table()
def test_a_run_that_invokes_a_debounced_one_gets_its_error() -> None:
    """At once, when the later event comes. The run of that event then passes the other limits.

    10 | function f on=go debounce=50 singleton=skip | -
    10 | function g on=call        | -
    10 | event call                | began r1 g; start r1
    11 | plan r1 invoke:a:f:900    | planned a until 911; began r2 f queued
    20 | event go                  | began r3 f queued; skipped r2 !debounced; kept a!debounced; resume r1 a!debounced
    70 | tick                      | admitted r3 after 50; start r3
    71 | event go                  | began r4 f queued
    121 | tick                     | skipped r4 !skipped
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


@table()
def test_a_run_is_skipped_while_another_one_is_open() -> None:
    """One for each value of the key. Its error names the open run, which gives way by its end.

    10 | function f on=go singleton=skip:event.data.t | -
    10 | event go {"t":"a"}    | began r1 f queued; admitted r1 after 0; start r1
    10 | event go {"t":"b"}    | began r2 f queued; admitted r2 after 0; start r2
    11 | event go {"t":"a"}    | began r3 f queued; skipped r3 !skipped
    11 | count runs_refused f skipped | 1
    12 | plan r1 sleep:a:90    | planned a until 90
    13 | event go {"t":"a"}    | began r4 f queued; skipped r4 !skipped
    14 | cancel r1             | cancelled r1 !run-cancelled; stop r1 cancelled;
       |                       | emit stream/function.finished#r1:finished; emit stream/function.cancelled#r1:cancelled
    15 | event go {"t":"a"}    | began r5 f queued; admitted r5 after 0; start r5
    16 | rerun r3 f q1 go e1   | began r6 f of r3 queued; admitted r6 after 0; start r6
    17 | rerun r3 f q2 go e1   | began r7 f of r3 queued; skipped r7 !skipped
    """


@table()
def test_a_run_replaces_the_open_one() -> None:
    """It starts when the other one has ended. No worker gets a run that was replaced while it waited.

    10 | function f on=go singleton=cancel throttle=1:100:9 | -
    10 | event go    | began r1 f queued; admitted r1 after 0; start r1
    20 | event go    | began r2 f queued; cancelled r1 !run-cancelled; stop r1 cancelled;
       |             | emit stream/function.finished#r1:finished; emit stream/function.cancelled#r1:cancelled;
       |             | admitted r2 after 0; start r2
    20 | count runs_cancelled f singleton | 1
    30 | raise r2 retry=50 | attempt 0 failed, next 80
    40 | event go    | began r3 f queued; cancelled r2 !run-cancelled; stop r2 cancelled;
       |             | emit stream/function.finished#r2:finished; emit stream/function.cancelled#r2:cancelled;
       |             | admitted r3 after 0; start r3
    50 | pause r3    | paused by ann until 0; reload r3
    60 | event go    | began r4 f queued; cancelled r3 !run-cancelled; stop r3 cancelled;
       |             | emit stream/function.finished#r3:finished; emit stream/function.cancelled#r3:cancelled;
       |             | admitted r4 after 0; start r4
    70 | return r4 =1 | completed r4 =1; emit stream/function.finished#r4:finished
    71 | rows GateRun | 0
    """


@table()
def test_the_latest_run_takes_the_place_of_those_that_wait() -> None:
    """The three came before the first of them could end, and those that waited for it are replaced as well.

    10 | function f on=go singleton=cancel | -
    10 | event go & event go & event go | began r1 f queued; began r2 f queued; began r3 f queued;
       |      | admitted r1 after 0; start r1;
       |      | cancelled r1 !run-cancelled; stop r1 cancelled;
       |      | emit stream/function.finished#r1:finished; emit stream/function.cancelled#r1:cancelled;
       |      | cancelled r2 !run-cancelled; stop r2 cancelled;
       |      | emit stream/function.finished#r2:finished; emit stream/function.cancelled#r2:cancelled;
       |      | admitted r3 after 0; start r3
    11 | rows GateWaiter | 0
    """


@table()
def test_a_changed_mode_counts_for_the_next_run() -> None:
    """Runs that waited are replaced too. Those that are admitted while the function is paused are decided at once.

    10 | function f on=go singleton=wait | -
    10 | event go                    | began r1 f queued; admitted r1 after 0; start r1
    11 | event go                    | began r2 f queued
    12 | event go                    | began r3 f queued
    13 | function f on=go singleton=skip | -
    14 | event go                    | began r4 f queued; skipped r4 !skipped
    15 | return r1 =1                | completed r1 =1; emit stream/function.finished#r1:finished;
       |                             | admitted r2 after 4; start r2
    16 | pause-scope function:f      | -
    17 | function f on=go singleton=cancel | -
    18 | event go                    | began r5 f queued; cancelled r2 !run-cancelled; stop r2 cancelled;
       |                             | emit stream/function.finished#r2:finished;
       |                             | emit stream/function.cancelled#r2:cancelled;
       |                             | cancelled r3 !run-cancelled; stop r3 cancelled;
       |                             | emit stream/function.finished#r3:finished;
       |                             | emit stream/function.cancelled#r3:cancelled;
       |                             | admitted r5 after 0
    20 | resume-scope function:f     | reload r5
    """


@table()
def test_a_key_starts_one_run_in_a_period() -> None:
    """Counted from the admission of the first run, however it ends. A run without a key is not limited.

    10  | function f on=go idempotency=event.data.id:100 | -
    10  | event go {"id":1}    | began r1 f queued; admitted r1 after 0; start r1
    20  | return r1 =1         | completed r1 =1; emit stream/function.finished#r1:finished
    50  | event go {"id":1}    | began r2 f queued; skipped r2 !idempotent
    50  | event go {"id":""}   | began r3 f queued; admitted r3 after 0; start r3
    50  | event go {"id":""}   | began r4 f queued; skipped r4 !idempotent
    50  | event go {"id":null} | began r5 f; start r5
    50  | event go             | began r6 f; start r6
    50  | count gate_key_errors | 2
    50  | count runs_refused f idempotent | 2
    109 | event go {"id":1}    | began r7 f queued; skipped r7 !idempotent
    110 | event go {"id":1}    | began r8 f queued; admitted r8 after 0; start r8
    250 | tick                 | -
    251 | rows GateState       | 0
    """


@table()
def test_a_rerun_needs_no_idempotency_key() -> None:
    """A person asks for it; it does not use the key up either.

    10  | function f on=go idempotency=event.name:100 | -
    10  | event go             | began r1 f queued; admitted r1 after 0; start r1
    11  | event go             | began r2 f queued; skipped r2 !idempotent
    12  | rerun r2 f q1 go e1  | began r3 f of r2; start r3
    110 | rerun r2 f q2 go e1  | began r4 f of r2; start r4
    110 | event go             | began r5 f queued; admitted r5 after 0; start r5
    """


@table()
def test_a_run_that_another_limit_refuses_does_not_use_its_key_up() -> None:
    """Otherwise no run of the key would start in the whole period. One that was cancelled uses it up.

    10  | function f on=go idempotency=event.data.id:1000 rate=1:100 | -
    10  | event go {"id":1}    | began r1 f queued; admitted r1 after 0; start r1
    20  | event go {"id":2}    | began r2 f queued; skipped r2 !rate-limited
    110 | event go {"id":2}    | began r3 f queued; admitted r3 after 0; start r3
    120 | cancel r3            | cancelled r3 !run-cancelled; stop r3 cancelled;
        |                      | emit stream/function.finished#r3:finished;
        |                      | emit stream/function.cancelled#r3:cancelled
    210 | event go {"id":2}    | began r4 f queued; skipped r4 !idempotent
    210 | event go {"id":3}    | began r5 f queued; admitted r5 after 0; start r5
    """


@table()
def test_a_run_passes_its_limits_in_a_fixed_order() -> None:
    """Idempotency, rate limit, singleton, throttle and concurrency: the first one that refuses a run names the reason.

    10  | function f on=go idempotency=event.data.id:1000 rate=1:10:2 singleton=skip throttle=1:100 | -
    10  | event go {"id":1}    | began r1 f queued; admitted r1 after 0; start r1
    10  | event go {"id":1}    | began r2 f queued; skipped r2 !idempotent
    11  | event go {"id":2}    | began r3 f queued; skipped r3 !skipped
    11  | event go {"id":2}    | began r4 f queued; skipped r4 !skipped
    11  | event go {"id":2}    | began r5 f queued; skipped r5 !rate-limited
    12  | return r1 =1         | completed r1 =1; emit stream/function.finished#r1:finished
    30  | event go {"id":2}    | began r6 f queued
    31  | event go {"id":3}    | began r7 f queued; skipped r7 !skipped
    110 | tick                 | admitted r6 after 80; start r6
    """


@table()
def test_a_schedule_starts_no_second_run_while_one_is_open() -> None:
    """The run of the next minute is skipped, and the one after that starts.

    0      | function f cron=*_*_*_*_* singleton=skip | -
    60000  | tick             | began r1 f queued; admitted r1 after 0; start r1
    120000 | tick             | began r2 f queued; skipped r2 !skipped
    130000 | return r1 =1     | completed r1 =1; emit stream/function.finished#r1:finished
    180000 | tick             | began r3 f queued; admitted r3 after 0; start r3
    """
