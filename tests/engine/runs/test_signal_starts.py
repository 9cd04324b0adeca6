"""Signals that start a run if none waits, as record tables: each is taken by one wait, or starts one run."""

from stepstream.contract.limits import DEFAULT_LIMITS, SIGNALS_QUEUED_MAX
from tests.engine.tables import Line, World, fold, read_table, table


@table()
def test_a_signal_starts_a_run_whose_first_wait_takes_it() -> None:
    """The run that is started takes the signal by its first wait for the name, and later ones by its next waits.

    10 | function f                                 | -
    11 | signal-or-start pager f =1 id=e1 reply=me by=ann | reply me started r1; began r1 f; start r1
    12 | signal pager =0 reply=me                   | reply me not_found
    13 | signal-or-start pager f =2 id=e2 reply=me  | reply me queued r1
    14 | plan r1 signal:x:other:500                 | planned x until 514
    14 | plan r1 signal:a:pager:500                 | planned a until 514; kept a=1 by ann; resume r1 a=1
    15 | plan r1 signal:b:pager:500                 | planned b until 515; kept b=2; resume r1 b=2
    16 | plan r1 signal:c:pager:500                 | planned c until 516
    17 | signal-or-start pager f =3 id=e3 reply=me  | kept c=3; resume r1 c=3; reply me delivered r1
    18 | return r1                                  | completed r1 =null; emit stream/function.finished#r1:finished
    18 | rows SignalRun                             | 0
    19 | signal-or-start pager f =4 id=e4 reply=me  | reply me started r2; began r2 f; start r2
    """


@table()
def test_a_signal_goes_to_any_run_that_waits() -> None:
    """A run that an event started gets the signal too; then nothing is started, and no row is kept.

    10 | function f on=go                           | -
    10 | event go                                   | began r1 f; start r1
    11 | plan r1 signal:a:pager:500                 | planned a until 511
    12 | signal-or-start pager f =1 id=e1 reply=me  | kept a=1; resume r1 a=1; reply me delivered r1
    12 | rows SignalRun                             | 0
    13 | signal-or-start pager g =1 id=e2 reply=me  | reply me function_not_found
    """


@table()
def test_a_signal_that_a_wait_does_not_take_comes_back() -> None:
    """A wait that times out as the signal arrives does not take it: it starts a run, and the answer says so.

    10  | function f on=go                          | -
    10  | event go                                  | began r1 f; start r1
    11  | plan r1 signal:a:pager:89                 | planned a until 100
    99  | signal-or-start pager f =1 id=e1 reply=me & resolved r1 a ~ | kept a~; resume r1 a~;
        |                                           | reply me started r2; began r2 f; start r2
    """


@table()
def test_the_end_of_a_run_starts_the_next_signal() -> None:
    """Signals that wait for a run start another one when it ends; the one that started it has had its chance.

    10 | function f                                 | -
    11 | signal-or-start pager f =1 id=e1           | began r1 f; start r1
    12 | signal-or-start pager f =2 id=e2           | -
    12 | signal-or-start pager f =3 id=e3           | -
    13 | return r1                                  | completed r1 =null; emit stream/function.finished#r1:finished;
       |                                            | began r2 f; start r2
    14 | plan r2 signal:a:pager:500                 | planned a until 514; kept a=2; resume r2 a=2
    15 | continue r2                                | completed r2 =null; emit stream/function.finished#r2:finished;
       |                                            | began r3 f continues r2#1; start r3
    16 | plan r3 signal:a:pager:500                 | planned a until 516; kept a=3; resume r3 a=3
    17 | return r3                                  | completed r3 =null; emit stream/function.finished#r3:finished
    17 | rows SignalRun                             | 0
    """


@table()
def test_a_refused_run_does_not_start_again() -> None:
    """A rate limit refuses the run that a signal starts: it ends as skipped, and its signal with it.

    10 | function f on=go rate=1:1000               | -
    10 | event go                                   | began r1 f queued; admitted r1 after 0; start r1
    11 | signal-or-start pager f =1 id=e1           | began r2 f queued; skipped r2 !rate-limited
    11 | rows SignalRun                             | 0
    """


def test_signals_that_wait_for_a_run_are_bounded() -> None:
    """One more than the limit is refused, so that its sender can send it again later."""
    lines = read_table("10 | function f | -\n11 | signal-or-start pager f =1 id=e1 | began r1 f; start r1")
    world = fold(lines, 1, DEFAULT_LIMITS)
    for number in range(SIGNALS_QUEUED_MAX - 1):
        words = world.play(read_table(f"12 | signal-or-start pager f =1 id=q{number} reply=me | -")[0])
        assert words == ["reply me queued r1"]
    assert world.play(read_table("12 | signal-or-start pager f =1 id=q reply=me | -")[0]) == ["reply me full"]


def test_large_signals_that_wait_for_a_run_are_bounded() -> None:
    """They fit a record of the changelog together with the one that started the run, which may be large itself."""
    large = f'="{"x" * (DEFAULT_LIMITS.step_output_bytes_max - 10)}"'
    world = World(1)
    world.play(Line(10, "function f", ""))
    world.play(Line(11, f"signal-or-start pager f {large} id=e1", ""))
    assert world.play(Line(12, f"signal-or-start pager f {large} id=e2 reply=me", "")) == ["reply me full"]
    world.play(Line(13, "plan r1 signal:a:pager:500", ""))
    assert world.play(Line(14, f"signal-or-start pager f {large} id=e3 reply=me", "")) == ["reply me queued r1"]


@table()
def test_signals_behind_one_of_a_retired_function_start_their_runs() -> None:
    """The signal of the retired function is lost, and not those that follow it.

    10 | function f                             | -
    10 | function g                             | -
    11 | signal-or-start pager f =1 id=e1       | began r1 f; start r1
    12 | signal-or-start pager f =2 id=e2       | -
    12 | signal-or-start pager g =3 id=e3       | -
    13 | function f retired                     | -
    14 | return r1 =1                           | completed r1 =1; emit stream/function.finished#r1:finished;
       |                                        | began r2 g; start r2
    """
