"""Leases, as record tables: a worker that left its group keeps what it still runs until that ends."""

from tests.engine.tables import table


@table()
def test_claims_of_a_leased_run_wait_for_its_release() -> None:
    """Reports of its worker count meanwhile; all claims are answered at the release, in their order.

    10 | function f on=go | -
    10 | event go e1      | began r1 f; start r1
    11 | lease r1 for=100 | -
    12 | claim r1 c1      | -
    13 | claim r1 c2      | -
    13 | claim r1 c1      | -
    14 | report r1 a =1   | kept a=1
    15 | lease r1         | moved to epoch 2; load r1 for c1 a=1; moved to epoch 3; load r1 for c2 a=1
    16 | report r1 b =2   | -
    17 | claim r1 c3      | moved to epoch 4; load r1 for c3 a=1
    18 | rows Timer       | 0
    """


@table()
def test_a_lease_expires() -> None:
    """Its worker may be killed before it releases the run; a longer lease replaces the one before.

    10  | function f on=go | -
    10  | event go e1      | began r1 f; start r1
    11  | lease r1 for=50  | -
    12  | lease r1 for=100 | -
    20  | claim r1 c1      | -
    62  | tick             | -
    112 | tick             | moved to epoch 2; load r1 for c1
    113 | report r1 a =1   | -
    113 | rows Timer       | 0
    """


@table()
def test_claims_of_a_leased_run_that_ends_are_answered() -> None:
    """The code of a leased run may reach its end.

    10 | function f on=go | -
    10 | event go e1      | began r1 f; start r1
    11 | lease r1 for=100 | -
    12 | claim r1 c1      | -
    13 | return r1 =3     | completed r1 =3; emit stream/function.finished#r1:finished; stop r1 ended
    14 | rows Timer       | 0
    """


@table()
def test_a_leased_run_whose_code_failed_is_released() -> None:
    """Its claims must wait for the next attempt, which any worker may get.

    10  | function f on=go   | -
    10  | event go e1        | began r1 f; start r1
    11  | lease r1 for=500   | -
    12  | claim r1 c1        | -
    13  | raise r1 retry=100 | attempt 0 failed, next 113; stop r1 waiting
    113 | tick               | resume r1
    114 | claim r1 c2        | moved to epoch 2; load r1 for c2
    """


@table()
def test_a_lease_of_an_older_epoch_is_ignored() -> None:
    """Another worker has the run already.

    10 | function f on=go | -
    10 | event go e1      | began r1 f; start r1
    11 | claim r1 c1      | moved to epoch 2; load r1 for c1
    12 | lease r1 for=100 | -
    13 | claim r1 c2      | moved to epoch 3; load r1 for c2
    14 | lease r2 for=100 | -
    14 | rows Timer       | 0
    """


@table()
def test_claims_of_a_step_that_lost_its_race_are_answered() -> None:
    """No worker is to run it.

    10 | function f on=go queues=gpu       | -
    10 | event go e1                       | began r1 f; start r1
    11 | plan r1 run:a:gpu                 | planned a until 0; dispatch r1 a#0
    12 | lease-step r1 a for=100 queue=gpu | -
    13 | claim-step r1 a c1 queue=gpu      | -
    14 | plan r1 cancel=a                  | dropped a; stop r1 a cancelled; stop r1 a ended
    14 | rows Timer                        | 0
    """


@table()
def test_a_dispatched_step_is_leased_by_its_worker() -> None:
    """Its report ends the lease, and so does its failure; another worker cannot lease it.

    10 | function f on=go queues=gpu                        | -
    10 | event go e1                                        | began r1 f; start r1
    11 | plan r1 run:a:gpu run:b:gpu                        | planned a until 0; dispatch r1 a#0; planned b until 0;
       |                                                    | dispatch r1 b#0
    12 | lease-step r1 a for=100 queue=gpu                  | -
    12 | lease-step r1 b for=100 queue=gpu                  | -
    13 | claim-step r1 a c1 queue=gpu                       | -
    13 | claim-step r1 b c2 queue=gpu                       | -
    14 | report r1 a =1 queue=gpu                           | kept a=1; resume r1 a=1; stop r1 a ended
    15 | fail r1 b retry=10 queue=gpu                       | attempt 0 of b failed, next 25; stop r1 b ended
    25 | tick                                               | dispatch r1 b#1 a=1
    26 | claim-step r1 b c3 queue=gpu                       | dispatch r1 b#1 for c3 a=1
    27 | lease-step r1 b for=10 queue=gpu                   | -
    28 | claim-step r1 b c4 queue=gpu                       | dispatch r1 b#1 for c4 a=1
    29 | lease-step r1 b attempt=1 for=9 queue=gpu claim=c4 | -
    30 | claim-step r1 b c5 queue=gpu                       | -
    38 | tick                                               | dispatch r1 b#1 for c5 a=1
    39 | lease-step r1 b attempt=1 for=9 queue=gpu claim=c5 | -
    40 | claim-step r1 b c6 queue=gpu                       | -
    41 | lease-step r1 b attempt=1 for=0 queue=gpu claim=c5 | dispatch r1 b#1 for c6 a=1
    41 | rows Timer                                         | 0
    """
