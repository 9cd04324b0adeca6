"""Tables of another changelog are deleted, and never mixed with it."""

import logging

import pytest

from stepstream.runtime.ports import LogError
from stepstream.runtime.shard.tables import open_tables
from stepstream.runtime.storage.journal import MemoryStore

OURS, OTHER = b"\x00ours", b"\x00other"


def store_at(rows: dict[bytes, bytes], position: int) -> MemoryStore:
    """Return tables at a position."""
    store = MemoryStore()
    store.write(list(rows.items()), position)
    return store


@pytest.mark.parametrize(
    ("rows", "position", "origin", "kept"),
    [
        ({OURS: b"1", b"a": b"2"}, 4, OURS, True),
        ({OTHER: b"1", b"a": b"2"}, 4, OURS, False),
        ({b"a": b"2"}, 4, OURS, False),
        ({b"a": b"2"}, 4, b"", True),
        ({}, 0, OURS, True),
    ],
)
async def test_tables_must_have_the_origin_of_their_changelog(
    rows: dict[bytes, bytes], position: int, origin: bytes, kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Empty tables fit any changelog, and a changelog without an origin accepts any tables."""

    async def origin_at(at: int) -> bytes:
        assert at == position
        return origin

    store = store_at(rows, position)
    caplog.set_level(logging.WARNING)
    assert await open_tables(store, origin_at) == (position if kept else 0)
    assert dict(store.rows) == (rows if kept else {})
    assert ("belong to another changelog" in caplog.text) == (not kept)


async def test_tables_ahead_of_their_changelog_are_kept() -> None:
    """The changelog lost rows, of which they may be the only copy."""

    async def origin_at(_: int) -> bytes:
        raise LogError("it ends before that")

    store = store_at({OTHER: b"1"}, 4)
    with pytest.raises(LogError):
        await open_tables(store, origin_at)
    assert dict(store.rows) == {OTHER: b"1"}
