"""Tables of another changelog are set aside, and a shard whose changelog is new repeats no event."""

import asyncio
import logging
from typing import ClassVar

import pytest

from stepstream.contract.topics import EVENTS, FUNCTIONS, INBOX
from stepstream.engine.state.rows import OpenCount, Position
from stepstream.engine.state.tables import encode_row, open_count_key, position_key
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.embedded.log import EmbeddedLog
from stepstream.runtime.ports import LogError, Offsets, Origin
from stepstream.runtime.shard.loop import Shard
from stepstream.runtime.shard.tables import open_tables
from stepstream.runtime.storage.journal import MemoryJournal, MemoryStore
from tests.fakes.waiting import until

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
        ({OTHER: b"1", b"a": b"2"}, 400, OURS, False),
        ({b"a": b"2"}, 4, OURS, False),
        ({b"a": b"2"}, 4, b"", True),
        ({}, 0, OURS, True),
    ],
)
async def test_tables_must_have_the_origin_of_their_changelog(
    rows: dict[bytes, bytes], position: int, origin: bytes, kept: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Empty tables fit any changelog, and a changelog without an origin accepts any tables."""

    async def found() -> Origin:
        return Origin(origin, 5)

    store = store_at(rows, position)
    caplog.set_level(logging.WARNING)
    assert await open_tables(store, found) == (position if kept else 0, {})
    assert dict(store.rows) == (rows if kept else {})
    assert ("do not belong to their changelog" in caplog.text) == (not kept)


async def test_tables_ahead_of_their_changelog_are_kept() -> None:
    """The changelog lost rows, of which they may be the only copy."""

    async def found() -> Origin:
        return Origin(OURS, 3)

    store = store_at({OURS: b"1"}, 4)
    with pytest.raises(LogError, match=r"at position 4 of a changelog that ends at 3: .*Restore its data"):
        await open_tables(store, found)
    assert dict(store.rows) == {OURS: b"1"}


class RecreatedLog(EmbeddedLog):
    """A log whose changelog and some other topics were created again."""

    topics: ClassVar = {EVENTS: "same", INBOX: "new", FUNCTIONS: "same"}
    sought: Offsets | None = None

    async def origin(self) -> Origin:
        """Return a changelog that has only an origin."""
        return Origin(OURS, 1)

    def topic_id(self, topic: str) -> str:
        """Return the id of a topic."""
        return self.topics.get(topic, "")

    async def seek(self, positions: Offsets) -> None:
        """Keep the offsets."""
        self.sought = dict(positions)
        await super().seek(positions)


async def test_shard_with_a_new_changelog_repeats_no_event(caplog: pytest.LogCaptureFixture) -> None:
    """Its runs are lost, but an input that is the same topic continues where the old tables were.

    The offsets are in the new tables at once, so that another owner continues there too.
    """
    places = {(EVENTS, 0): "same", (INBOX, 0): "old", (FUNCTIONS, 0): "same"}
    rows = {position_key(*at).encode(): encode_row(Position(7, topic)) for at, topic in places.items()}
    rows[open_count_key("open_runs", "work").encode()] = encode_row(OpenCount(3))
    store, clock = store_at({OTHER: b"1", **rows}, 400), VirtualClock(1_000)
    log = RecreatedLog(MemoryJournal(), clock, 0)
    shard = Shard(log, store, clock)
    serving = asyncio.ensure_future(shard.serve())
    await until(lambda: log.sought is not None and store.get(position_key(EVENTS, 0).encode()))
    assert log.sought == {(EVENTS, 0): 7}
    assert store.get(position_key(EVENTS, 0).encode()) == encode_row(Position(7, "same"))
    assert store.get(position_key(INBOX, 0).encode()) is None
    assert "with 3 open runs, do not belong to their changelog" in caplog.text
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


async def test_input_that_was_created_again_is_read_from_its_beginning(caplog: pytest.LogCaptureFixture) -> None:
    """Its offsets are those of another topic; a position without an id is that of the same topic."""
    rows = {
        position_key(EVENTS, 0).encode(): encode_row(Position(7, "old")),
        position_key(INBOX, 0).encode(): encode_row(Position(8)),
        OURS: b"1",
    }
    clock = VirtualClock(1_000)
    log = RecreatedLog(MemoryJournal(), clock, 0)
    shard = Shard(log, store_at(rows, 1), clock)
    serving = asyncio.ensure_future(shard.serve())
    await until(lambda: log.sought)
    assert log.sought == {(INBOX, 0): 8}
    assert "shard 0 reads events-0 from its beginning: the topic was deleted and created again" in caplog.text
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
