"""Reruns, as record tables: a new run that takes over results, once for each request."""

from tests.engine.tables import table


@table()
def test_a_rerun_starts_a_new_run_with_the_same_event() -> None:
    """A rerun is a run of its own with its origin; it begins with no result, and ends like any other.

    10 | function f on=go          | -
    10 | event go e1               | began r1 f; start r1
    11 | return r1 =1              | completed r1 =1; emit stream/function.finished#r1:finished
    12 | rerun r1 f q1 reply=R go e1 | began r2 f of r1; start r2; reply R r2
    13 | return r2 =2              | completed r2 =2; emit stream/function.finished#r2:finished
    """


@table()
def test_a_repeated_request_starts_one_run() -> None:
    """The same request for the same origin starts one run, also after that has ended; another one starts another.

    10       | function f on=go            | -
    10       | rerun old f q1 reply=R go e1  | began r1 f of old; start r1; reply R r1
    10       | rerun old f q1 reply=S go e1  | reply S r1
    11       | return r1 =1                | completed r1 =1; emit stream/function.finished#r1:finished
    12       | rerun old f q1 reply=T go e1  | reply T r1
    12       | count duplicate_starts      | 0
    13       | rerun old f q2 reply=U go e1  | began r2 f of old; start r2; reply U r2
    14       | return r2 =1                | completed r2 =1; emit stream/function.finished#r2:finished
    86400013 | tick                        | -
    86400013 | rows Start                  | 0
    """


@table()
def test_copied_results_are_given_to_the_worker_that_claims() -> None:
    """The results that a rerun takes over are in its history and its state; results of its own sort behind them.

    10 | function f on=go                   | -
    10 | rerun old f q1 go e1 a:=1@1 b:!Oops@2 | began r1 f of old; copied a=1; copied b!Oops; resume r1
    11 | claim r1 c1                        | moved to epoch 2; load r1 for c1 a=1 b!Oops
    12 | report r1 c =3 epoch=2 seen=2      | kept c=3
    13 | claim r1 c2                        | moved to epoch 3; load r1 for c2 a=1 b!Oops c=3
    14 | report r1 a =9 epoch=3             | -
    15 | return r1 =4 epoch=3               | completed r1 =4; emit stream/function.finished#r1:finished
    """


@table()
def test_a_rerun_of_an_unknown_function_is_refused() -> None:
    """A function that is not registered, or was retired, starts no run, and the answer says so.

    10 | rerun old f q1 reply=R go e1 | reply R function_not_found
    11 | function f on=go retired   | -
    12 | rerun old f q1 reply=R go e1 | reply R function_not_found
    """
