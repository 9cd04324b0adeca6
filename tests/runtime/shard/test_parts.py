"""The cache of small parts: it returns what the store has, and reads a part again only when it must."""

from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.contract.limits import CACHED_PART_BYTES_MAX, CACHED_PART_ROWS_MAX, CACHED_PARTS_MAX
from stepstream.engine.state.keys import Key
from stepstream.engine.state.tables import WAITS
from stepstream.runtime.shard import parts
from stepstream.runtime.shard.parts import CACHED_TABLES, Parts
from stepstream.runtime.storage.journal import MemoryStore

TABLE = WAITS.prefix
PART = b"bucket"


class CountingStore(MemoryStore):
    """A store that counts its scans, and the rows that they return."""

    def __init__(self) -> None:
        super().__init__()
        self.scans = self.returned = 0

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Return rows."""
        found = super().scan(prefix, limit, after)
        self.scans += 1
        self.returned += len(found)
        return found


class World:
    """A store and the cache in front of it."""

    def __init__(self) -> None:
        self.store = CountingStore()
        self.parts = Parts(self.store)

    def write(self, rows: dict[bytes, bytes | None], part: bytes = PART) -> None:
        """Write the rows of a part as a batch does."""
        keys = {Key[object](TABLE, part, sort): value for sort, value in rows.items()}
        self.store.write([(key.encode(), value) for key, value in keys.items()], 0)
        self.parts.note(keys.items())

    def places(self, part: bytes = PART) -> list[bytes]:
        """Return the places of a part's rows."""
        return [sort for sort, _ in self.parts.scan(TABLE, part, 0, b"")]


def rows(count: int, value: bytes | None = b"row", start: int = 0) -> dict[bytes, bytes | None]:
    """Return so many rows."""
    return {b"%06d" % number: value for number in range(start, start + count)}


SORTS = st.sampled_from([b"a", b"b", b"c", b"d", b"e", b"f"])
PARTS = st.sampled_from([b"x\x00", b"y\x00"])
WRITES = st.tuples(st.just("write"), PARTS, st.dictionaries(SORTS, st.sampled_from([None, b"1", b"1234567890"])))
SCANS = st.tuples(st.just("scan"), PARTS, st.tuples(st.integers(0, 4), st.one_of(st.just(b""), SORTS)))


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(WRITES, SCANS), max_size=40), st.integers(1, 3))
def test_a_scan_returns_what_the_store_has(script: list[tuple[str, bytes, object]], parts_max: int) -> None:
    """Whatever was written since, whether the part fits into the cache or not, and from whatever place on."""
    with mock.patch.multiple(
        parts, CACHED_PART_ROWS_MAX=3, CACHED_PART_BYTES_MAX=20, CACHED_PARTS_MAX=parts_max, _ROWS_READ=(2, 2)
    ):
        world = World()
        for what, part, more in script:
            if what == "write":
                assert isinstance(more, dict)
                world.write(more, part)
            else:
                assert isinstance(more, tuple)
                limit, after = more
                stored = MemoryStore.scan(world.store, TABLE + part, limit, TABLE + part + after if after else b"")
                expected = [(key[len(TABLE + part) :], value) for key, value in stored]
                assert world.parts.scan(TABLE, part, limit, after) == expected


def test_a_bucket_through_which_many_waits_pass_is_read_once() -> None:
    """A store of sorted files would read through every deleted row; the cache has the live ones."""
    world = World()
    for number in range(1_000):
        world.write(rows(1, start=number))
        assert world.places() == list(rows(1, start=number))
        world.write(rows(1, None, start=number))
        assert world.places() == []
    assert world.store.scans == 1


def test_a_large_part_is_not_cached_until_it_has_shrunk() -> None:
    """It is read in small portions as before, and tried again after as many deletions as a part may have rows."""
    world = World()
    world.write(rows(2 * CACHED_PART_ROWS_MAX))
    world.places()
    world.store.returned = 0
    for _ in range(10):
        world.parts.scan(TABLE, PART, 16, b"")
    assert world.store.returned == 160
    world.write(rows(2 * CACHED_PART_ROWS_MAX - 1, None))
    assert world.places() == [b"%06d" % (2 * CACHED_PART_ROWS_MAX - 1)]
    world.store.scans = 0
    assert len(world.places()) == 1
    assert world.store.scans == 0


@pytest.mark.parametrize("value", [b"x" * (CACHED_PART_BYTES_MAX // 8), b"x" * 4 * CACHED_PART_BYTES_MAX])
def test_a_part_with_large_rows_is_not_cached(value: bytes) -> None:
    """Nor is more of it read than the first portion in order to know."""
    world = World()
    world.write(rows(100, value))
    world.parts.scan(TABLE, PART, 1, b"")
    assert world.store.returned <= 16 + 1
    world.parts.scan(TABLE, PART, 1, b"")
    assert world.store.returned <= 16 + 2


def test_a_part_that_grows_leaves_the_cache() -> None:
    """By its number of rows or by their bytes."""
    for more in (rows(CACHED_PART_ROWS_MAX, start=1), rows(1, b"x" * CACHED_PART_BYTES_MAX, start=1)):
        world = World()
        world.write(rows(1))
        world.places()
        world.write(more)
        world.store.scans = 0
        assert len(world.places()) == 1 + len(more)
        assert world.store.scans > 0


def test_the_part_that_was_scanned_last_stays() -> None:
    """The cache has a bounded number of parts, and drops the one that was scanned longest ago."""
    world = World()
    for number in range(CACHED_PARTS_MAX + 1):
        world.places(b"%06d" % number)
        world.places(PART)
    world.store.scans = 0
    world.places(PART)
    world.places(b"%06d" % CACHED_PARTS_MAX)
    assert world.store.scans == 0
    world.places(b"%06d" % 0)
    assert world.store.scans == 1


def test_only_tables_that_are_scanned_by_whole_parts_are_cached() -> None:
    """A scan of a whole table, such as that of all functions, has another part than the keys of its rows."""
    world = World()
    assert TABLE in CACHED_TABLES
    assert b"f" not in CACHED_TABLES
    world.parts.note({Key[object](b"f", PART, b"1"): b"row"}.items())
    assert world.places() == []
