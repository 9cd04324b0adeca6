"""Starting one function for a caller, as record tables: once for each request."""

from tests.engine.tables import table


@table()
def test_a_caller_starts_one_function() -> None:
    """No other function with the same trigger starts, and the answer is the id of the run, also after its end.

    10       | function f on=go      | -
    10       | function g on=go      | -
    10       | invoke f id=k reply=R | began r1 f; start r1; reply R r1
    11       | invoke f id=k reply=S | reply S r1
    12       | return r1 =1          | completed r1 =1; emit stream/function.finished#r1:finished
    13       | invoke f id=k reply=T | reply T r1
    13       | invoke f id=m reply=U | began r2 f; start r2; reply U r2
    14       | return r2 =1          | completed r2 =1; emit stream/function.finished#r2:finished
    86400013 | tick                  | -
    86400013 | rows Start            | 0
    86400014 | invoke f id=k reply=V | began r3 f; start r3; reply V r3
    """


@table()
def test_two_requests_of_a_batch_start_one_run() -> None:
    """A request that is sent again before the first was answered gets the same run.

    10 | function f                                    | -
    10 | invoke f id=k reply=R & invoke f id=k reply=S | began r1 f; start r1; reply R r1; reply S r1
    """


@table()
def test_an_invocation_of_an_unknown_function_is_refused() -> None:
    """A function that is not registered, or was retired, starts no run, and the answer says so.

    10 | invoke f id=k reply=R    | reply R function_not_found
    11 | function f on=go retired | -
    12 | invoke f id=k reply=R    | reply R function_not_found
    """


@table()
def test_an_invoked_run_waits_for_the_limits_of_its_function() -> None:
    """A run of a function with a limit is queued; the answer has its id at once. It waits for no batch.

    10 | function f on=go concurrency=1 batch=10:500 | -
    10 | invoke f id=k reply=R | began r1 f queued; reply R r1; admitted r1 after 0; start r1
    11 | invoke f id=m reply=S | began r2 f queued; reply S r2
    12 | return r1 =1 | completed r1 =1; emit stream/function.finished#r1:finished; admitted r2 after 1; start r2
    """
