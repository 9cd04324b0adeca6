"""The offsets that a worker commits."""

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from stepstream.runtime.worker.commands.positions import Positions


@given(offsets=st.lists(st.integers(0, 1_000), unique=True, min_size=1, max_size=20), data=st.data())
def test_an_offset_never_passes_an_open_command(offsets: list[int], data: st.DataObject) -> None:
    """In any order of acknowledgements, the offset is that of the first open command, and it only increases."""
    read = sorted(offsets)
    positions = Positions()
    for offset in read:
        positions.begin("commands", 0, offset)
    open_ones, committed = set(read), read[0]
    for offset in data.draw(st.permutations(read)):
        positions.end("commands", 0, offset)
        open_ones.discard(offset)
        moved = positions.advance()
        if moved:
            assert moved["commands", 0] > committed
            committed = moved["commands", 0]
        assert committed == min(open_ones, default=read[-1] + 1)
    assert positions.advance() == {}


def test_an_open_command_does_not_keep_later_ones_in_memory() -> None:
    """A body of days keeps the offset of its partition, and any number of later commands are acknowledged."""
    positions = Positions()
    positions.begin("commands", 0, 0)
    traced = tracemalloc.is_tracing()
    tracemalloc.start()
    before_bytes, _ = tracemalloc.get_traced_memory()
    for offset in range(1, 20_000):
        positions.begin("commands", 0, offset)
        positions.end("commands", 0, offset)
        assert positions.advance() == {}
    used_bytes, _ = tracemalloc.get_traced_memory()
    if not traced:
        tracemalloc.stop()
    assert used_bytes - before_bytes < 20_000


def test_acknowledgements_of_a_revoked_partition_are_ignored() -> None:
    """Another worker reads it. When it is assigned again, its commands are read again."""
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
