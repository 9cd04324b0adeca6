"""Records of one batch, as record tables: their effects follow after all of them, in order."""

from tests.engine.tables import table


@table()
def test_duplicates_within_a_batch_count_once() -> None:
    """Of two starts, signals, events for one wait, reports or ends in a batch, the first counts.

    10 | function f on=go                                     | -
    10 | event go e1 & event go e1                            | began r1 f; start r1
    11 | plan r1 signal:a:pager:500 wait:b:come:500           | planned a until 511; planned b until 511
    12 | signal pager =1 reply=me & signal pager =2 reply=you | reply me delivered r1; reply you not_found; kept a=1;
       |                                                      | resume r1 a=1
    13 | event come e2 & event come e3                        | kept b=come:e2; resume r1 b=come:e2
    14 | report r1 c =1 & report r1 c =2                      | kept c=1
    15 | claim r1 c1 & claim r1 c1                            | moved to epoch 2; load r1 for c1 c=1 a=1 b=come:e2
    16 | cancel r1 reply=me & return r1 =1 epoch=2 & cancel r1 reply=you |
       |                                                      | cancelled r1 !run-cancelled; stop r1 cancelled;
       |                                                      | emit stream/function.finished#r1:finished;
       |                                                      | emit stream/function.cancelled#r1:cancelled;
       |                                                      | reply me cancelled; reply you not_found
    """


@table()
def test_the_order_within_a_batch_decides() -> None:
    """An event right before the registration of a wait does not end it, one right after it does.

    10 | function f on=go                                      | -
    10 | event go {"id":1}                                     | began r1 f; start r1
    11 | event come {"id":1} e1 & plan r1 wait:a:come:500:data.id wait:b:come:500 & event come {"id":1} e2 |
       |                                                       | planned a until 511; planned b until 511;
       |                                                       | kept b=come:e2; resume r1 b=come:e2; kept a=come:e2;
       |                                                       | resume r1 a=come:e2
    12 | signal pager =1 reply=me & plan r1 signal:c:pager:500 | reply me not_found; planned c until 512
    """


@table()
def test_steps_opened_in_the_last_batch_are_closed() -> None:
    """The end of a wait takes the route of the wait and cannot overtake it.

    10 | function f on=go  | -
    10 | event go {"id":1} | began r1 f; start r1
    11 | plan r1 wait:a:come:500:data.id wait:b:come:500 signal:c:pager:500 & return r1 =1 |
       |                   | planned a until 511; planned b until 511; planned c until 511; completed r1 =1;
       |                   | emit stream/function.finished#r1:finished
    11 | rows Wait         | 0
    11 | rows SignalWaiter | 0
    11 | rows Timer        | 0
    """


@table()
def test_timers_fire_first_in_a_batch() -> None:
    """Due timers fire before the records of the batch, so a timeout wins over an event at the same time.

    10  | function f on=go                   | -
    10  | event go                           | began r1 f; start r1
    11  | plan r1 wait:a:come:89 sleep:b:100 | planned a until 100; planned b until 100
    12  | raise r1 attempt=0 retry=88        | attempt 0 failed, next 100
    100 | tick & event come & claim r1 c1    | resume r1; kept a~; resume r1 a~; kept b=null; resume r1 b=null;
        |                                    | moved to epoch 2; load r1 for c1 a~ b=null
    """


@table()
def test_a_claim_divides_the_reports_of_a_batch() -> None:
    """Reports of one worker count before another worker's claim in the batch, and not after it.

    10 | function f on=go | -
    10 | event go         | began r1 f; start r1
    11 | report r1 a =1 & claim r1 c1 & report r1 b =1 & report r1 b =2 epoch=2 |
       |                  | kept a=1; moved to epoch 2; load r1 for c1 a=1; kept b=2
    """
