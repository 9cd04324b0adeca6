"""What a worker that left its group still has at work, as record tables: nobody else gets it until it is done."""

from tests.engine.tables import table


@table()
def test_a_reserved_run_is_nobody_elses_until_its_worker_lets_go() -> None:
    """Its reports count meanwhile; all who asked are answered then, in their order.

    10 | function f on=go         | -
    10 | event go e1              | began r1 f; start r1
    11 | reserve r1 for=100       | -
    12 | claim r1 c1              | -
    13 | claim r1 c2              | -
    13 | claim r1 c1              | -
    14 | report r1 a =1           | kept a=1
    15 | reserve r1               | moved to epoch 2; load r1 for c1 a=1; moved to epoch 3; load r1 for c2 a=1
    16 | report r1 b =2           | -
    17 | claim r1 c3              | moved to epoch 4; load r1 for c3 a=1
    18 | rows Timer               | 0
    """


@table()
def test_a_reservation_ends_by_itself() -> None:
    """Its worker may be killed before it is done; a longer one takes the place of the one before.

    10  | function f on=go         | -
    10  | event go e1              | began r1 f; start r1
    11  | reserve r1 for=50        | -
    12  | reserve r1 for=100       | -
    20  | claim r1 c1              | -
    62  | tick                     | -
    112 | tick                     | moved to epoch 2; load r1 for c1
    113 | report r1 a =1           | -
    113 | rows Timer               | 0
    """


@table()
def test_whoever_asked_for_a_run_that_ends_hears_of_it() -> None:
    """The code of a reserved run may come to its end.

    10 | function f on=go         | -
    10 | event go e1              | began r1 f; start r1
    11 | reserve r1 for=100       | -
    12 | claim r1 c1              | -
    13 | return r1 =3             | completed r1 =3; emit stream/function.finished#r1:finished; stop r1 ended
    14 | rows Timer               | 0
    """


@table()
def test_a_reserved_run_whose_code_failed_is_anybodys() -> None:
    """Whoever asked is told to wait for the next attempt, which comes to it as to any other.

    10  | function f on=go         | -
    10  | event go e1              | began r1 f; start r1
    11  | reserve r1 for=500       | -
    12  | claim r1 c1              | -
    13  | raise r1 retry=100       | attempt 0 failed, next 113; stop r1 waiting
    113 | tick                     | resume r1
    114 | claim r1 c2              | moved to epoch 2; load r1 for c2
    """


@table()
def test_a_reservation_of_an_older_epoch_is_none() -> None:
    """Another worker has the run already.

    10 | function f on=go         | -
    10 | event go e1              | began r1 f; start r1
    11 | claim r1 c1              | moved to epoch 2; load r1 for c1
    12 | reserve r1 for=100       | -
    13 | claim r1 c2              | moved to epoch 3; load r1 for c2
    14 | reserve r2 for=100       | -
    14 | rows Timer               | 0
    """


@table()
def test_whoever_asked_for_a_step_that_lost_its_race_hears_of_it() -> None:
    """Nobody is to run it any more.

    10  | function f on=go queues=gpu               | -
    10  | event go e1                               | began r1 f; start r1
    11  | plan r1 run:a:gpu                         | planned a until 0; lend r1 a#0
    12  | reserve-step r1 a for=100 queue=gpu       | -
    13  | claim-step r1 a c1 queue=gpu              | -
    14  | plan r1 cancel=a                          | dropped a; stop r1 a cancelled; stop r1 a ended
    14  | rows Timer                                | 0
    """


@table()
def test_a_lent_step_is_reserved_by_the_worker_whose_report_counts() -> None:
    """Its report ends the reservation, and so does its failure.

    10  | function f on=go queues=gpu               | -
    10  | event go e1                               | began r1 f; start r1
    11  | plan r1 run:a:gpu run:b:gpu               | planned a until 0; lend r1 a#0; planned b until 0; lend r1 b#0
    12  | reserve-step r1 a for=100 queue=gpu       | -
    12  | reserve-step r1 b for=100 queue=gpu       | -
    13  | claim-step r1 a c1 queue=gpu              | -
    13  | claim-step r1 b c2 queue=gpu              | -
    14  | report r1 a =1 queue=gpu                  | kept a=1; resume r1 a=1; stop r1 a ended
    15  | fail r1 b retry=10 queue=gpu              | attempt 0 of b failed, next 25; stop r1 b ended
    25  | tick                                      | lend r1 b#1 a=1
    26  | claim-step r1 b c3 queue=gpu              | lend r1 b#1 for c3 a=1
    27  | reserve-step r1 b for=10 queue=gpu        | -
    28  | claim-step r1 b c4 queue=gpu              | lend r1 b#1 for c4 a=1
    29  | reserve-step r1 b attempt=1 for=9 queue=gpu claim=c4 | -
    30  | claim-step r1 b c5 queue=gpu              | -
    38  | tick                                      | lend r1 b#1 for c5 a=1
    39  | reserve-step r1 b attempt=1 for=9 queue=gpu claim=c5 | -
    40  | claim-step r1 b c6 queue=gpu              | -
    41  | reserve-step r1 b attempt=1 for=0 queue=gpu claim=c5 | lend r1 b#1 for c6 a=1
    41  | rows Timer                                | 0
    """
