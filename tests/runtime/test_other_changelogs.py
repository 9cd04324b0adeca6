"""Tables are only those of their changelog: others are thrown away, and not mixed with it."""

import logging

import pytest

from stepstream.contract.topics import CHANGELOG
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.embedded import EmbeddedLog
from stepstream.runtime.journal import JournalWrite, MemoryJournal, MemoryStore
from stepstream.runtime.ports import NewRecord
from stepstream.runtime.tables import TAIL_OFFSETS, open_tables


def journal_of(rows: list[tuple[bytes, bytes]]) -> MemoryJournal:
    """Return a journal whose changelog has these rows; an empty value deletes."""
    journal = MemoryJournal()
    journal.write(JournalWrite([NewRecord(CHANGELOG, 0, key, value) for key, value in rows]), 0)
    return journal


def store_at(rows: dict[bytes, bytes], position: int) -> MemoryStore:
    """Return tables at a position."""
    store = MemoryStore()
    store.write(list(rows.items()), position)
    return store


ROWS = [(b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"b", b""), (b"a", b"3")]


@pytest.mark.parametrize(
    ("rows", "position", "kept"),
    [
        ({b"a": b"2"}, 4, True),
        ({b"a": b"2", b"old": b"1"}, 4, True),
        ({b"a": b"1"}, 4, False),
        ({b"a": b"2", b"b": b"1"}, 4, False),
        ({b"b": b"1"}, 4, False),
        ({b"a": b"1"}, 1, True),
        ({b"z": b"1"}, 0, True),
    ],
)
async def test_tables_have_what_their_changelog_says(
    rows: dict[bytes, bytes], position: int, kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The last row of each key before their position is theirs, what was deleted is not, later ones do not count."""
    log, store = EmbeddedLog(journal_of(ROWS), VirtualClock(0), 0), store_at(rows, position)
    caplog.set_level(logging.WARNING)
    assert await open_tables(store, log.tail) == (position if kept else 0)
    assert dict(store.rows) == (rows if kept else {})
    assert ("not those of this changelog" in caplog.text) == (not kept)


async def test_only_the_end_is_looked_at() -> None:
    """A changelog may be long: what lies before its last offsets is not read."""
    rows = [(b"k%d" % number, b"1") for number in range(2 * TAIL_OFFSETS)]
    log = EmbeddedLog(journal_of(rows), VirtualClock(0), 0)
    tail = [row async for part in log.tail(2 * TAIL_OFFSETS) for row in part]
    assert tail == rows[TAIL_OFFSETS:]
