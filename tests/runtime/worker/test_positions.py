"""The position that a worker commits."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from stepstream.runtime.worker.positions import Positions


@given(offsets=st.lists(st.integers(0, 1_000), unique=True, min_size=1, max_size=20), data=st.data())
def test_a_position_never_passes_an_open_record(offsets: list[int], data: st.DataObject) -> None:
    """Whatever the order in which records end, the position is that of the first open one, and it only grows."""
    begun = sorted(offsets)
    positions = Positions()
    for offset in begun:
        positions.begin("commands", 0, offset)
    open_ones, committed = set(begun), begun[0]
    for offset in data.draw(st.permutations(begun)):
        positions.end("commands", 0, offset)
        open_ones.discard(offset)
        moved = positions.advance()
        if moved:
            assert moved["commands", 0] > committed
            committed = moved["commands", 0]
        assert committed == min(open_ones, default=begun[-1] + 1)
    assert positions.advance() == {}


def test_an_open_record_does_not_keep_those_behind_it_in_memory() -> None:
    """A body of days holds its partition's position, and any number of others come and end meanwhile."""
    positions = Positions()
    positions.begin("commands", 0, 0)
    tracemalloc.start()
    for offset in range(1, 20_000):
        positions.begin("commands", 0, offset)
        positions.end("commands", 0, offset)
        assert positions.advance() == {}
    used_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert used_bytes < 20_000


def test_what_ends_of_a_partition_that_went_is_passed_over() -> None:
    """It is another worker's; when it comes back its records are begun once more."""
    positions = Positions()
    positions.begin("commands", 0, 5)
    positions.keep([])
    positions.end("commands", 0, 5)
    positions.begin("commands", 0, 4)
    positions.end("commands", 0, 5)
    assert positions.advance() == {}
    positions.begin("commands", 0, 5)
    positions.end("commands", 0, 4)
    assert positions.advance() == {("commands", 0): 5}
