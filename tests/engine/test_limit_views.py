"""What operators see of limits, as record tables: who holds them and who waits, on any number of shards."""

from stepstream.contract.gates import Gate, GateAsked
from stepstream.contract.ids import run_hash, run_id_at
from stepstream.contract.operators.limit_views import LimitsRequested, decode_limits
from stepstream.engine.state.changes import Reply
from stepstream.engine.transition import transition
from tests.engine.tables import table
from tests.fakes.tables import CountingTables


@table()
def test_a_limit_shows_who_holds_it_and_who_waits() -> None:
    """A run that waits finds its place; one that does not wait, or has ended, waits for no limit.

    10 | function f on=go concurrency=2::two | -
    10 | event go         | began r1 f queued; admitted r1 after 0; start r1
    10 | limit two        | two: 1/2, by r1
    11 | event go         | began r2 f queued; admitted r2 after 0; start r2
    12 | event go         | began r3 f queued
    13 | event go         | began r4 f queued
    14 | limit two        | two: 2/2, by r1 r2, 2 waiting since 12: r3 r4
    14 | limit-of r4      | two: 2/2, by r1 r2, 2 waiting since 12: r3 r4, place 2
    15 | cancel r3        | cancelled r3 !run-cancelled; stop r3 cancelled; emit stream/function.finished#r3:finished;
       |                  | emit stream/function.cancelled#r3:cancelled
    16 | limit-of r4      | two: 2/2, by r1 r2, 1 waiting since 13: r4, place 1
    16 | limit-of r1      | no limit
    16 | limit-of r3      | no limit
    16 | limit other      | no limit
    """


@table()
def test_limits_of_all_shards_are_one_list_in_pages() -> None:
    """Each value of a key is a separate limit; a name leaves out the others, also those that begin with it.

    10 | function f on=go concurrency=1:event.data.t:one | -
    10 | function g on=too concurrency=1::one-more      | -
    10 | event go {"t":"b"} | began r1 f queued; admitted r1 after 0; start r1
    10 | event go {"t":"a"} | began r2 f queued; admitted r2 after 0; start r2
    10 | event go {"t":"c"} | began r3 f queued; admitted r3 after 0; start r3
    10 | event go {"t":"a"} | began r4 f queued
    10 | event too          | began r5 g queued; admitted r5 after 0; start r5
    11 | limits             | one of a: 1/1, by r2, 1 waiting since 10: r4; one of b: 1/1, by r1; one of c: 1/1, by r3;
       |                    | more
    11 | limits one         | one of a: 1/1, by r2, 1 waiting since 10: r4; one of b: 1/1, by r1; one of c: 1/1, by r3
    11 | limits after=one-more  | -
    11 | limits one-more    | one-more: 1/1, by r5
    11 | limit one key=b    | one of b: 1/1, by r1
    """


@table()
def test_a_limit_on_starts_shows_when_the_next_one_is_allowed() -> None:
    """A run that waits for the second of its limits shows that one.

    10  | function f on=go throttle=1:100 concurrency=1::one | -
    10  | event go              | began r1 f queued; admitted r1 after 0; start r1
    20  | event go              | began r2 f queued
    20  | limit-of r2           | throttle f: 1 in 100, next 110, 1 waiting since 20: r2, place 1
    110 | tick                  | -
    110 | limit-of r2           | one: 1/1, by r1, 1 waiting since 110: r2, place 1
    """


@table()
def test_a_list_has_the_first_runs_of_each_limit() -> None:
    """The limit itself shows up to 100 of them.

    10 | function f on=go concurrency=5::five | -
    11 | event go   | began r1 f queued; admitted r1 after 0; start r1
    12 | event go   | began r2 f queued; admitted r2 after 0; start r2
    13 | event go   | began r3 f queued; admitted r3 after 0; start r3
    14 | event go   | began r4 f queued; admitted r4 after 0; start r4
    15 | limits     | five: 4/5, by r1 r2 r3
    15 | limit five | five: 4/5, by r1 r2 r3 r4
    """


def test_a_page_of_the_list_reads_no_more_for_more_limits() -> None:
    """Each of its limits takes its own row, and a few of those that hold it and wait."""
    tables = CountingTables()
    for number in range(100):
        gate = Gate("limit", 1, f"{number:03}")
        for run in range(3):
            tables.apply(transition(tables, GateAsked(gate, run_id_at(10, run_hash("f", str(run)))), 10))
    tables.start_over()
    (reply,) = transition(tables, LimitsRequested("R", 5, "limit", "limit\x00049"), 10).changes
    assert isinstance(reply, Reply)
    assert [view.key for view in decode_limits(reply.status).limits] == ["050", "051", "052", "053", "054", "055"]
    assert tables.scanned.total() <= 6 * (1 + 2 * 3)
