"""Tables that a disk has spoiled: a shard never takes what is left of them for all, and makes them anew."""

import shutil
from pathlib import Path

import pytest

from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.embedded.log import EmbeddedLog
from stepstream.runtime.ports import LogError, LogRecord
from stepstream.runtime.shard.loop import Shard
from stepstream.runtime.storage.journal import MemoryJournal, MemoryStore
from stepstream.runtime.storage.rocks import RocksStore

ROWS = 20_000


def opened(path: Path) -> tuple[RocksStore, int]:
    """Return the tables of a shard, and the position that they are at."""
    store = RocksStore(path, lambda: 0, 1)
    return store, store.open()


def filled(path: Path) -> None:
    """Make tables with many rows, all of them in files of their own, at position 5."""
    store, _ = opened(path)
    store.write([(b"a%05d" % row, b"%05d" % row * 20) for row in range(ROWS)], 5)
    assert store._db is not None
    store._db._db.flush()
    store.close()


def spoil(path: Path, pattern: str, at: float) -> None:
    """Overwrite a part of each file."""
    files = list(path.glob(pattern))
    assert files
    for file in files:
        content = bytearray(file.read_bytes())
        begin = int(len(content) * at)
        content[begin : begin + 64] = b"\xa5" * len(content[begin : begin + 64])
        file.write_bytes(content)


def write_files(store: RocksStore, count: int) -> None:
    """Write rows as a busy shard does, which fills one file after the other."""
    assert store._db is not None
    for _ in range(count):
        store.write([(b"z%05d" % row, b"x" * 200) for row in range(2_000)], 6)
        store._db._db.flush()


@pytest.mark.parametrize(("pattern", "at"), [("CURRENT", 0.0), ("MANIFEST-*", 0.5), ("*.sst", 0.99)])
def test_tables_that_cannot_be_opened_are_made_anew(tmp_path: Path, pattern: str, at: float) -> None:
    """The shard reads its changelog from the start, instead of failing to begin for ever."""
    filled(tmp_path / "shard")
    spoil(tmp_path / "shard", pattern, at)
    store, position = opened(tmp_path / "shard")
    assert (position, store.scan(b"a", 0)) == (0, [])
    store.close()


@pytest.mark.parametrize("pattern", ["MANIFEST-*", "*.sst", "CURRENT", "*"])
def test_tables_of_which_files_are_gone_are_made_anew(tmp_path: Path, pattern: str) -> None:
    """As after a removal that was cut short, or by hand: none of what is left is taken for all."""
    filled(tmp_path / "shard")
    for file in (tmp_path / "shard").glob(pattern):
        file.unlink()
    store, position = opened(tmp_path / "shard")
    assert (position, store.scan(b"a", 0)) == (0, [])
    store.close()


@pytest.mark.parametrize("stale", [True, False])
def test_a_removal_that_is_cut_short_leaves_nothing_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stale: bool
) -> None:
    """The process dies as soon as tables that are too old, or spoiled, are removed: the next owner begins with none."""
    path = tmp_path / "shard"
    filled(path)
    if not stale:
        spoil(path, "CURRENT", 0.0)

    def cut_short(gone: Path, ignore_errors: bool) -> None:
        assert ignore_errors
        if gone.exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(shutil, "rmtree", cut_short)
    with pytest.raises(KeyboardInterrupt):
        RocksStore(path, lambda: 10, 1).open()
    monkeypatch.undo()
    assert [file.name for file in tmp_path.iterdir()] == ["shard.removed"]
    store, position = opened(path)
    assert (position, store.scan(b"a", 0)) == (0, [])
    assert [file.name for file in tmp_path.iterdir()] == ["shard"]
    store.close()


def test_rows_that_cannot_be_read_are_not_left_out(tmp_path: Path) -> None:
    """A scan that stops in the middle is an error, and not the end; the next owner makes the tables anew."""
    filled(tmp_path / "shard")
    spoil(tmp_path / "shard", "*.sst", 0.3)
    store, position = opened(tmp_path / "shard")
    assert position == 5
    with pytest.raises(Exception, match="Corruption"):
        store.scan(b"a", 0)
    store.close()
    store, position = opened(tmp_path / "shard")
    assert position == 0
    store.close()


@pytest.mark.slow
def test_tables_that_cannot_be_written_are_made_anew(tmp_path: Path) -> None:
    """RocksDB meets the spoiled block when it puts files together, and tells whoever writes next, and closes."""
    path = tmp_path / "shard"
    for _ in range(3):
        filled(path)
    spoil(path, "*.sst", 0.1)
    store, position = opened(path)
    assert position == 5
    with pytest.raises(Exception, match="Corruption"):
        write_files(store, 100)
    store.close()
    store, position = opened(path)
    assert (position, store.scan(b"a", 1)) == (0, [])
    store.close()


async def test_a_log_is_let_go_of_whatever_becomes_of_the_tables() -> None:
    """The shard begins again with another: its clients are not left behind."""
    closed: list[str] = []

    class Failing(EmbeddedLog):
        async def poll(self, _limit: int, _until_ms: int | None) -> list[LogRecord]:
            raise LogError("nothing can be read")

        async def close(self) -> None:
            closed.append("log")

    class Spoiled(MemoryStore):
        def close(self) -> None:
            raise OSError("nothing can be written")

    clock = VirtualClock(0)
    with pytest.raises(OSError, match="written"):
        await Shard(Failing(MemoryJournal(), clock, 0), Spoiled(), clock).serve()
    assert closed == ["log"]
