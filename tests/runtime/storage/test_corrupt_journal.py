"""A corrupt journal, the only copy of its runs: it is not opened, nothing is deleted, and the error says what to do."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from stepstream.runtime.ports import LogError, NewRecord, StoreError
from stepstream.runtime.storage.failures import UnusableState
from stepstream.runtime.storage.journal import JournalWrite
from stepstream.runtime.storage.rocks import RocksJournal

EVENTS = 300
REMEDY = r"db is corrupt \(.+\); restore the folder from a copy, or rename it"


def write(journal: RocksJournal, first: int, count: int) -> None:
    """Write events and rows, one by one."""
    for number in range(first, first + count):
        value = os.urandom(100)
        journal.write(JournalWrite([NewRecord("events", 0, b"k", value)], {}, [(b"t%05d" % number, value)]), 0)


def killed(folder: Path, *, closed: bool = False) -> Path:
    """Return the journal of a process that was killed: some writes are in a file of rows, some only in the log."""
    journal = RocksJournal(folder / "live")
    write(journal, 0, EVENTS)
    assert journal._db is not None
    journal._db._db.flush()
    write(journal, EVENTS, EVENTS)
    if closed:
        journal.close()
    shutil.copytree(folder / "live", folder / "db")
    journal.close()
    return folder / "db"


def garble(file: Path, at: float) -> None:
    """Overwrite a part of a file."""
    content = bytearray(file.read_bytes())
    start = int(len(content) * at)
    content[start : start + 64] = b"\xa5" * len(content[start : start + 64])
    file.write_bytes(content)


def cut(file: Path, share: float) -> None:
    """Cut a file off."""
    os.truncate(file, int(file.stat().st_size * share))


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "rows cut off": ("*.sst", lambda file: cut(file, 0.5)),
    "rows are garbage": ("*.sst", lambda file: garble(file, 0.99)),
    "rows are missing": ("*.sst", Path.unlink),
    "manifest is missing": ("MANIFEST-*", Path.unlink),
    "manifest is empty": ("MANIFEST-*", lambda file: cut(file, 0)),
    "manifest is cut off": ("MANIFEST-*", lambda file: cut(file, 0.9)),
    "manifest is garbage": ("MANIFEST-*", lambda file: garble(file, 0.5)),
    "CURRENT is garbage": ("CURRENT", lambda file: file.write_bytes(b"\xff\xfegarbage")),
    "CURRENT is empty": ("CURRENT", lambda file: cut(file, 0)),
    "CURRENT is missing": ("CURRENT", Path.unlink),
}


@pytest.mark.parametrize("closed", [False, True], ids=["killed", "closed"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_corrupt_journal_is_refused_and_left_as_it_is(tmp_path: Path, damage: str, closed: bool) -> None:
    """Whether or not its process could close it."""
    path = killed(tmp_path, closed=closed)
    pattern, apply = DAMAGES[damage]
    for file in path.glob(pattern):
        apply(file)
    assert_refused_and_kept(path)


def test_corrupt_log_of_writes_is_refused(tmp_path: Path) -> None:
    """By default RocksDB drops all writes from there on, says nothing, and deletes the log."""
    path = killed(tmp_path)
    (log,) = path.glob("*.log")
    garble(log, 0.5)
    assert_refused_and_kept(path)


def assert_refused_and_kept(path: Path) -> None:
    """Check that a journal is not opened, with the remedy, and that its files stay as they are."""
    kept = {file.name: file.read_bytes() for file in path.iterdir() if not file.name.startswith(("LOG", "LOCK"))}
    with pytest.raises(UnusableState, match=REMEDY):
        RocksJournal(path)
    left = {file.name: file.read_bytes() for file in path.iterdir()}
    assert {name: left[name] for name in kept} == kept


@pytest.mark.parametrize(
    "damage", [lambda log: cut(log, 0.9), lambda log: log.write_bytes(log.read_bytes() + bytes(5_000))]
)
def test_write_that_a_crash_cut_short_is_dropped(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """It was never acknowledged; the writes before it are complete."""
    path = killed(tmp_path)
    (log,) = path.glob("*.log")
    damage(log)
    journal = RocksJournal(path)
    assert EVENTS < journal.end("events", 0) <= 2 * EVENTS
    assert len(journal.read("events", 0, 0, 2 * EVENTS)) == len(journal.scan(b"t", 0)) == journal.end("events", 0)
    journal.close()


def test_rows_found_corrupt_later_stop_what_reads_them(tmp_path: Path) -> None:
    """Readers fail with the remedy instead of missing rows."""
    path = killed(tmp_path)
    (rows,) = path.glob("*.sst")
    garble(rows, 0.2)
    journal = RocksJournal(path)
    with pytest.raises(LogError, match=REMEDY):
        journal.read("events", 0, 0, 2 * EVENTS)
    garble(rows, 0.7)
    with pytest.raises(StoreError, match=REMEDY):
        journal.scan(b"t", 0)
    journal.close()


def test_command_of_the_runbook_keeps_the_writes_before_the_damage(tmp_path: Path) -> None:
    """The latest writes are in a log; those before the damaged place are complete."""
    path = killed(tmp_path)
    (log,) = path.glob("*.log")
    garble(log, 0.5)
    runbook = Path(__file__).parents[3].joinpath("docs", "runbook.md").read_text(encoding="utf-8")
    (code,) = re.findall(r'`python -c "(.+Rdict.+)"`', runbook)
    subprocess.run([sys.executable, "-c", code.replace("DIR/db", str(path))], check=True)
    journal = RocksJournal(path)
    assert EVENTS < journal.end("events", 0) == len(journal.scan(b"t", 0)) < 2 * EVENTS
    journal.close()
