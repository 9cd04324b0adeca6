"""Corrupt tables: a shard never uses what is left of them, and rebuilds them from its changelog."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.embedded.log import EmbeddedLog
from stepstream.runtime.ports import LogError, StoreError
from stepstream.runtime.shard.loop import Shard
from stepstream.runtime.storage.journal import MemoryJournal, MemoryStore
from stepstream.runtime.storage.rocks_store import RocksStore
from tests.fakes.shard_log import FakeLog, FakeStore

ROWS = 20_000


def opened(path: Path) -> tuple[RocksStore, int]:
    """Open the tables of a shard; return them and their position."""
    store = RocksStore(path, lambda: 0, 1)
    return store, store.open()


def fill(path: Path) -> None:
    """Create tables at position 5, with many rows, flushed to a file."""
    store, _ = opened(path)
    store.write([(b"a%05d" % row, b"%05d" % row * 20) for row in range(ROWS)], 5)
    assert store._db is not None
    store._db._db.flush()
    store.close()


def corrupt(path: Path, pattern: str, at: float) -> None:
    """Overwrite a part of each file."""
    files = list(path.glob(pattern))
    assert files
    for file in files:
        content = bytearray(file.read_bytes())
        start = int(len(content) * at)
        content[start : start + 64] = b"\xa5" * len(content[start : start + 64])
        file.write_bytes(content)


def write_files(store: RocksStore, count: int) -> None:
    """Write rows as a busy shard does, which fills file after file."""
    assert store._db is not None
    for _ in range(count):
        store.write([(b"z%05d" % row, b"x" * 200) for row in range(2_000)], 6)
        store._db._db.flush()


@pytest.mark.parametrize(("pattern", "at"), [("CURRENT", 0.0), ("MANIFEST-*", 0.5), ("*.sst", 0.99)])
def test_corrupt_tables_are_opened_empty(tmp_path: Path, pattern: str, at: float) -> None:
    """The shard recovers from the start of its changelog, instead of failing at every start."""
    fill(tmp_path / "shard")
    corrupt(tmp_path / "shard", pattern, at)
    store, position = opened(tmp_path / "shard")
    assert (position, store.scan(b"a", 0)) == (0, [])
    store.close()


def killed(path: Path) -> Path:
    """Create tables of a process that was killed after it had flushed files; return a copy of them."""
    store, _ = opened(path)
    assert store._db is not None
    # Four files would begin a compaction, while they are copied.
    for position in range(1, 4):
        store.write([(b"a%d" % position, b"x")], position)
        store._db._db.flush()
    # The list of files is recorded at every 64th write.
    for _ in range(64):
        store.write([(b"a4", b"x")], 4)
    shutil.copytree(path, path.with_name("killed"))
    store.close()
    return path.with_name("killed")


def ends_lost(content: bytes) -> Iterator[bytes]:
    """Yield a list of files without its end, and with an end of zeros or garbage."""
    for at in range(0, len(content), 29):
        lost = len(content) - at
        yield from (content[:at], content[:at] + bytes(lost), content[:at] + b"\xa5" * lost)


@pytest.mark.slow
def test_tables_whose_list_of_files_lost_its_end_are_opened_empty(tmp_path: Path) -> None:
    """RocksDB would open them at the latest position, without the rows of some files."""
    folder, tried = killed(tmp_path / "shard"), tmp_path / "tried"
    (manifest,) = folder.glob("MANIFEST-*")
    for content in ends_lost(manifest.read_bytes()):
        shutil.copytree(folder, tried)
        (tried / manifest.name).write_bytes(content)
        store, position = opened(tried)
        assert (position, store.scan(b"a", 0)) == (0, [])
        store.close()
        shutil.rmtree(tried)


@pytest.mark.parametrize("record", [b"", b"garbage", None])
def test_tables_without_a_record_of_their_list_of_files_are_used(tmp_path: Path, record: bytes | None) -> None:
    """As those of an earlier release, or on a disk that took no record."""
    folder = killed(tmp_path / "shard")
    if record is None:
        (folder / "MANIFEST.check").unlink()
    else:
        (folder / "MANIFEST.check").write_bytes(record)
    store, position = opened(folder)
    assert (position, len(store.scan(b"a", 0))) == (4, 4)
    store.close()


def test_tables_of_a_process_that_was_killed_are_used(tmp_path: Path) -> None:
    """The list of files may have grown since it was recorded, and was then replaced by another list."""
    path = tmp_path / "shard"
    for position in range(1, 4):
        store, before = opened(path)
        assert (before, len(store.scan(b"a", 0))) == (position - 1, position - 1)
        store.write([(b"a%d" % position, b"x")], position)
        assert store._db is not None
        store._db._db.flush()
        shutil.copytree(path, tmp_path / "killed")
        store.close()
        shutil.rmtree(path)
        (tmp_path / "killed").rename(path)


@pytest.mark.parametrize("pattern", ["MANIFEST-*", "*.sst", "CURRENT", "*"])
def test_tables_with_missing_files_are_opened_empty(tmp_path: Path, pattern: str) -> None:
    """As after an interrupted or a manual deletion."""
    fill(tmp_path / "shard")
    for file in (tmp_path / "shard").glob(pattern):
        file.unlink()
    store, position = opened(tmp_path / "shard")
    assert (position, store.scan(b"a", 0)) == (0, [])
    store.close()


@pytest.mark.parametrize("stale", [True, False])
def test_interrupted_deletion_blocks_no_later_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stale: bool
) -> None:
    """The process dies while it deletes old or corrupt tables; the next owner starts with empty ones."""
    path = tmp_path / "shard"
    fill(path)
    if not stale:
        corrupt(path, "CURRENT", 0.0)

    def interrupt(removed: Path, ignore_errors: bool) -> None:
        assert ignore_errors
        if removed.exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", interrupt)
    with pytest.raises(KeyboardInterrupt):
        RocksStore(path, lambda: 10, 1).open()
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ["shard.removed"]
    store, position = opened(path)
    assert (position, store.scan(b"a", 0)) == (0, [])
    assert [file.name for file in tmp_path.iterdir()] == ["shard"]
    store.close()


def test_scan_of_corrupt_rows_is_an_error(tmp_path: Path) -> None:
    """It does not look like the end of the rows; the next owner opens empty tables."""
    fill(tmp_path / "shard")
    corrupt(tmp_path / "shard", "*.sst", 0.3)
    store, position = opened(tmp_path / "shard")
    assert position == 5
    with pytest.raises(StoreError, match="are corrupt, and are rebuilt"):
        store.scan(b"a", 0)
    store.close()
    store, position = opened(tmp_path / "shard")
    assert position == 0
    store.close()


@pytest.mark.slow
def test_corruption_found_by_a_compaction_empties_the_tables(tmp_path: Path) -> None:
    """RocksDB reads the corrupt block when it merges files, and raises at the next write and at close."""
    path = tmp_path / "shard"
    for _ in range(3):
        fill(path)
    corrupt(path, "*.sst", 0.1)
    store, position = opened(path)
    assert position == 5
    with pytest.raises(Exception, match=r"Corruption|are corrupt"):
        write_files(store, 100)
    store.close()
    store, position = opened(path)
    assert (position, store.scan(b"a", 1)) == (0, [])
    store.close()


async def test_log_is_closed_even_if_the_tables_cannot_be() -> None:
    """The shard restarts with a new log; the clients of the old one must not stay connected."""
    clock = VirtualClock(0)
    log, store = FakeLog(EmbeddedLog(MemoryJournal(), clock, 0)), FakeStore(MemoryStore())
    log.calls.fail("poll", LogError("no broker answers"))
    store.calls.fail("close", OSError("the disk is full"))
    with pytest.raises(OSError, match="full"):
        await Shard(log, store, clock).serve()
    assert log.closed
