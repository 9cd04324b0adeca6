"""The position that a worker commits."""

from hypothesis import given
from hypothesis import strategies as st

from stepstream.runtime.positions import Positions


@given(offsets=st.lists(st.integers(0, 1_000), unique=True, max_size=20), data=st.data())
def test_a_position_never_passes_an_open_record(offsets: list[int], data: st.DataObject) -> None:
    """Whatever the order in which records end, the position is that of the first open one, and it only grows."""
    begun = sorted(offsets)
    positions = Positions()
    for offset in begun:
        positions.begin("commands", 0, offset)
    open_ones, committed = set(begun), -1
    for offset in data.draw(st.permutations(begun)):
        positions.end("commands", 0, offset)
        open_ones.discard(offset)
        moved = positions.advance()
        ended_before = [at for at in begun if at < min(open_ones, default=1_001)]
        if moved:
            assert moved == {("commands", 0): ended_before[-1] + 1}
            assert moved["commands", 0] > committed
            committed = moved["commands", 0]
        assert committed == (ended_before[-1] + 1 if ended_before else -1)
    assert positions.advance() == {}
