"""Signals, as record tables: one waiter per name, the answer to the sender, and when a name is free again."""

from tests.engine.tables import table


@table()
def test_a_signal_goes_to_its_waiter_and_is_not_kept() -> None:
    """A signal ends the wait; without a waiter it is dropped. The sender gets either answer.

    10 | function f on=go               | -
    10 | event go                       | began r1 f; start r1
    11 | signal pager =1 reply=me       | reply me not_found
    12 | plan r1 signal:a:pager:500     | planned a until 512
    13 | signal horn =1 reply=me        | reply me not_found
    14 | signal pager ={"n":2} reply=me by=ann | reply me delivered r1; kept a={"n":2} by ann; resume r1 a={"n":2}
    15 | signal pager =3 reply=me       | reply me not_found
    16 | signal pager =3                | -
    """


@table()
def test_the_second_waiter_fails() -> None:
    """With `fail` the second wait fails at once, and the first one still gets the signal.

    10 | function f on=go           | -
    10 | event go                   | began r1 f; start r1
    10 | event go                   | began r2 f; start r2
    11 | plan r1 signal:a:pager:500 | planned a until 511
    12 | plan r2 signal:b:pager:500 | planned b until 512; kept b!signal-conflict; resume r2 b!signal-conflict
    13 | signal pager =1            | kept a=1; resume r1 a=1
    """


@table()
def test_the_second_waiter_takes_over() -> None:
    """With `replace` the first wait fails at once, and its end does not free the name of the second.

    10 | function f on=go                   | -
    10 | event go                           | began r1 f; start r1
    10 | event go                           | began r2 f; start r2
    11 | plan r1 signal:a:pager:500         | planned a until 511
    12 | plan r2 signal:b:pager:500:replace | planned b until 512; kept a!signal-replaced; resume r1 a!signal-replaced
    13 | return r1 =1                       | completed r1 =1; emit stream/function.finished#r1:finished
    14 | signal pager =2                    | kept b=2; resume r2 b=2
    """


@table()
def test_a_run_may_not_wait_twice_for_one_name() -> None:
    """Two waits of one run for one name are a conflict like any other; a repeat of the same wait is not.

    10 | function f on=go                              | -
    10 | event go                                      | began r1 f; start r1
    11 | plan r1 signal:a:pager:500 signal:b:pager:500 | planned a until 511; planned b until 511;
       |                                               | kept b!signal-conflict; resume r1 b!signal-conflict
    12 | plan r1 signal:a:pager:500                    | -
    13 | signal pager =1                               | kept a=1; resume r1 a=1
    """


@table()
def test_a_name_is_free_when_its_wait_ends() -> None:
    """A timeout, a lost race, and any end of the run free the name.

    10  | function f on=go           | -
    10  | event go                   | began r1 f; start r1
    10  | event go                   | began r2 f; start r2
    11  | plan r1 signal:a:pager:89  | planned a until 100
    100 | plan r2 signal:a:pager:20  | planned a until 120
    100 | tick                       | kept a~; resume r1 a~
    101 | plan r2 cancel=a           | dropped a
    101 | rows SignalWaiter          | 0
    102 | plan r1 signal:b:pager:500 | planned b until 602
    103 | return r1 =1               | completed r1 =1; emit stream/function.finished#r1:finished
    103 | rows SignalWaiter          | 0
    104 | plan r2 signal:c:pager:500 | planned c until 604
    105 | cancel r2                  | cancelled r2 !run-cancelled; stop r2 cancelled;
        |                            | emit stream/function.finished#r2:finished;
        |                            | emit stream/function.cancelled#r2:cancelled
    105 | rows SignalWaiter          | 0
    106 | signal pager =1 reply=me   | reply me not_found
    """


@table()
def test_a_signal_at_the_timeout_finds_no_waiter() -> None:
    """At the time of the timeout a signal finds no waiter, whichever of the two is applied first.

    10  | function f on=go          | -
    10  | event go                  | began r1 f; start r1
    11  | plan r1 signal:a:pager:89 | planned a until 100
    100 | signal pager =1 reply=me  | reply me not_found
    100 | tick                      | kept a~; resume r1 a~
    """
