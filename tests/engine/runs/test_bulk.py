"""Bulk operations, as record tables: pages arrive, requests are sent at a rate, and each run counts once."""

from stepstream.contract.limits import Limits
from tests.engine.tables import table


@table()
def test_a_bulk_cancel_ends_each_open_run() -> None:
    """Runs are cancelled once the last page has arrived; the outcome of each is counted, also of one that had ended.

    10       | function f on=go                 | -
    10       | event go e1 & event go e2        | began r1 f; start r1; began r2 f; start r2
    11       | return r2 =1                     | completed r2 =1; emit stream/function.finished#r2:finished
    20       | bulk start b cancel u reply=A    | bulk b receiving 0/0; reply A receiving
    21       | bulk page b u 0 r1 reply=B       | reply B receiving
    21       | tick                             | -
    22       | bulk page b u 1 r2 last reply=C  | bulk b running 0/2; reply C running
    22       | tick                             | bulk b running 2/2; cancelled r1 !run-cancelled; stop r1 cancelled;
             |                                  | emit stream/function.finished#r1:finished;
             |                                  | emit stream/function.cancelled#r1:cancelled;
             |                                  | bulk b completed 2/2 cancelled=1 not_found=1
    23       | rows BulkItem                    | 0
    24       | bulk start b cancel v reply=D    | reply D completed
    25       | bulk cancel b reply=E            | reply E completed
    604800022 | tick                           | -
    604800022 | rows Bulk                       | 0
    """


@table()
def test_a_bulk_rerun_starts_each_run_once() -> None:
    """An outcome that arrives twice counts once; a function that is not registered has a separate outcome.

    10 | function f on=go                      | -
    10 | bulk start b rerun u                  | bulk b receiving 0/0
    11 | bulk page b u 0 old1:f old2:g last    | bulk b running 0/2
    11 | tick                                  | bulk b running 2/2; began r1 f of old1; start r1;
       |                                       | bulk b completed 2/2 function_not_found=1 started=1
    12 | bulk ended b 0 started                | -
    12 | count stale_bulk_outcomes             | 1
    13 | return r1 =1                          | completed r1 =1; emit stream/function.finished#r1:finished
    """


@table()
def test_requests_are_sent_at_the_rate_of_the_operation() -> None:
    """With 20 per second two runs are sent each 100 ms; a late timer sends no more, and progress is recorded rarely.

    10   | bulk start b cancel u rate=20                | bulk b receiving 0/0
    11   | bulk page b u 0 a1 a2 a3 a4 a5 last          | bulk b running 0/5
    11   | tick                                         | -
    110  | tick                                         | -
    111  | tick                                         | -
    111  | rows BulkItem                                | 1
    5000 | tick                                         | bulk b running 5/5 not_found=4;
         |                                              | bulk b completed 5/5 not_found=5
    """


@table()
def test_a_slow_rate_sends_one_run_at_a_time() -> None:
    """With 2 per second a run is sent each half a second.

    10   | bulk start b cancel u rate=2  | bulk b receiving 0/0
    10   | bulk page b u 0 a1 a2 last    | bulk b running 0/2
    10   | tick                          | -
    509  | tick                          | -
    510  | tick                          | bulk b running 2/2 not_found=1; bulk b completed 2/2 not_found=2
    """


@table()
def test_a_cancelled_operation_sends_nothing_more() -> None:
    """Runs that it did not act on stay as they are, and requests that were sent are still counted.

    10        | function f on=go                    | -
    10        | event go e1                         | began r1 f; start r1
    10        | bulk start b cancel u rate=10       | bulk b receiving 0/0
    10        | bulk page b u 0 a1 r1 a3 last       | bulk b running 0/3
    10        | tick                                | -
    11        | bulk cancel b reply=A               | bulk b cancelled 1/3 not_found=1; reply A cancelled
    12        | bulk cancel b reply=B               | reply B cancelled
    12        | tick                                | -
    12        | rows BulkItem                       | 0
    12        | bulk ended b 0 not_found            | -
    500       | tick                                | -
    501       | return r1 =1                        | completed r1 =1; emit stream/function.finished#r1:finished
    604800011 | tick                                | -
    604800011 | rows Bulk                           | 0
    """


@table()
def test_an_operation_whose_pages_stop_arriving_expires() -> None:
    """It has changed no run, its rows are removed, and a page that comes later is refused.

    10        | function f on=go                    | -
    10        | event go e1                         | began r1 f; start r1
    10        | bulk start b cancel u               | bulk b receiving 0/0
    60000     | bulk page b u 0 r1                  | -
    600010    | tick                                | -
    660000    | tick                                | bulk b expired 0/0
    660000    | rows BulkItem                       | 1
    660001    | bulk page b u 1 r2 last reply=A     | reply A expired
    660001    | tick                                | -
    660001    | rows BulkItem                       | 0
    660002    | bulk start b cancel v reply=B       | reply B expired
    660003    | return r1 =1                        | completed r1 =1; emit stream/function.finished#r1:finished
    605460000 | tick                                | -
    605460000 | rows Bulk                           | 0
    """


@table()
def test_another_upload_replaces_an_unfinished_one() -> None:
    """Pages of the first upload, pages that arrive twice and pages after a gap are refused; the second is complete.

    10  | bulk start b cancel u            | bulk b receiving 0/0
    11  | bulk page b u 0 a1 a2 a3         | -
    12  | bulk start b cancel u reply=A    | reply A receiving
    13  | bulk start b cancel v            | bulk b receiving 0/0
    14  | bulk page b u 3 a4 last reply=B  | reply B receiving
    15  | bulk page b v 1 a6 last          | -
    16  | bulk page b v 0 a5               | -
    17  | bulk page b v 0 a5               | -
    18  | count stale_bulk_pages           | 3
    19  | bulk page b v 1 a6 last          | bulk b running 0/2
    19  | tick                             | bulk b running 2/2; bulk b completed 2/2 not_found=2
    604800019 | tick                       | -
    604800019 | rows BulkItem              | 0
    604800019 | rows Bulk                  | 0
    """


@table()
def test_an_operation_without_runs_is_completed() -> None:
    """All of its runs may have been dropped from the read model while they were collected.

    10 | bulk start b rerun u           | bulk b receiving 0/0
    11 | bulk page b u 0 last reply=A   | bulk b completed 0/0; reply A completed
    12 | bulk cancel c reply=B          | reply B absent
    13 | bulk page c u 0 r1 reply=C     | reply C absent
    """


@table()
def test_an_operation_may_be_cancelled_while_it_is_received() -> None:
    """The rest of its pages is refused, and those that arrived are removed.

    10 | bulk start b cancel u           | bulk b receiving 0/0
    11 | bulk page b u 0 a1              | -
    12 | bulk cancel b                   | bulk b cancelled 0/0
    13 | bulk page b u 1 a2 last reply=A | reply A cancelled
    13 | tick                            | -
    13 | rows BulkItem                   | 0
    """


@table()
def test_requests_that_were_sent_are_counted_after_a_cancellation() -> None:
    """Only the run that was not acted on is removed.

    10 | bulk start b cancel u rate=20          | bulk b receiving 0/0
    11 | bulk page b u 0 a1 a2 a3 last          | bulk b running 0/3
    11 | tick & bulk cancel b                   | bulk b cancelled 2/3; bulk b cancelled 2/3 not_found=2
    11 | tick                                   | -
    11 | rows BulkItem                          | 0
    """


@table()
def test_a_bulk_pause_holds_open_runs_until_a_bulk_resume() -> None:
    """The pause of each run has its end, and who asked for it and why; a run without a pause has a separate outcome.

    10 | function f on=go                          | -
    10 | event go e1 & event go e2                 | began r1 f; start r1; began r2 f; start r2
    11 | return r2 =1                              | completed r2 =1; emit stream/function.finished#r2:finished
    20 | bulk start b pause u until=500 why=down   | bulk b receiving 0/0
    20 | bulk page b u 0 r1 r2 last                | bulk b running 0/2
    20 | tick                                      | bulk b running 2/2; paused by ann until 500; reload r1;
       |                                           | bulk b completed 2/2 not_found=1 paused=1
    21 | claim r1 c1                               | stop r1 paused
    30 | bulk start c resume u why=up              | bulk c receiving 0/0
    30 | bulk page c u 0 r1 r2 last                | bulk c running 0/2
    30 | tick                                      | bulk c running 2/2; unpaused by ann; reload r1;
       |                                           | bulk c completed 2/2 not_found=1 resumed=1
    31 | bulk start d resume u                     | bulk d receiving 0/0
    31 | bulk page d u 0 r1 last                   | bulk d running 0/1
    31 | tick                                      | bulk d running 1/1; bulk d completed 1/1 not_paused=1
    32 | claim r1 c2                               | moved to epoch 2; load r1 for c2
    500 | tick                                     | -
    """


@table()
def test_a_request_that_fails_is_counted_and_named() -> None:
    """The shard that cannot apply a request reports why; a later outcome of the same run changes nothing.

    10 | bulk start b rerun u                       | bulk b receiving 0/0
    10 | bulk ended b 0 started                     | -
    10 | bulk page b u 0 old1 old2:f last           | bulk b running 0/2
    10 | count stale_bulk_outcomes                  | 1
    10 | bulk ended b 1 failed reason=broken        | -
    10 | bulk ended b 1 started                     | -
    10 | tick                                       | bulk b running 2/2 failed=1 old2:broken;
       |                                            | bulk b completed 2/2 failed=2 old2:broken
       |                                            | old1:it has no request for a rerun
    """


@table()
def test_an_operation_whose_requests_were_lost_is_completed() -> None:
    """After seven days no topic has its requests; a later outcome changes nothing, and all of its rows are removed.

    10         | bulk start b cancel u                | bulk b receiving 0/0
    10         | bulk page b u 0 old1 old2 old3 last  | bulk b running 0/3
    10         | lose ticks                           | bulk b running 3/3
    11         | bulk ended b 1 not_found             | -
    604800009  | tick                                 | -
    604800010  | tick                                 | bulk b completed 3/3 not_found=1 unanswered=2
               |                                      | old1:its request was not answered within 7 days
               |                                      | old3:its request was not answered within 7 days
    604800011  | bulk ended b 2 cancelled             | -
    604800011  | count stale_bulk_outcomes            | 1
    1209600009 | tick                                 | -
    1209600009 | rows BulkItem                        | 2
    1209600010 | tick                                 | -
    1209600010 | rows BulkItem                        | 0
    1209600010 | rows Bulk                            | 0
    """


@table(Limits(steps_per_run_max=1))
def test_a_rerun_beyond_lowered_limits_is_refused() -> None:
    """The limits are lower than when the run ended; the request is answered, and leaves nothing behind.

    10 | function f on=go                            | -
    10 | rerun old f once go e1 a:=1 b:=2 reply=A      | reply A the run has more than 1 steps
    10 | rows Start                                  | 0
    10 | rerun old f once go e1 a:=1 reply=B         | began r1 f of old; copied a=1; resume r1; reply B r1
    11 | rerun old f once go e1 a:=1 b:=2 reply=C      | reply C r1
    12 | bulk start b rerun u                        | bulk b receiving 0/0
    12 | bulk page b u 0 old2:f:2 last               | bulk b running 0/1
    12 | tick                                        | bulk b running 1/1; bulk b completed 1/1 failed=1
       |                                             | old2:the run has more than 1 steps
    """


@table()
def test_many_rows_of_an_operation_are_removed_in_portions() -> None:
    """An upload that was replaced has left more rows than one transition removes.

    10        | bulk start b cancel u        | bulk b receiving 0/0
    10        | bulk page b u 0 a*502        | -
    10        | bulk start b cancel v        | bulk b receiving 0/0
    10        | bulk page b v 0 a1 last      | bulk b running 0/1
    10        | tick                         | bulk b running 1/1; bulk b completed 1/1 not_found=1
    604800010 | tick                         | -
    604800010 | rows BulkItem                | 1
    604800011 | tick                         | -
    604800011 | rows BulkItem                | 0
    604800011 | rows Bulk                    | 0
    """
