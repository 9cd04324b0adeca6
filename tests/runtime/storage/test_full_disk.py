"""A full disk: what was written stays readable, the error says what to do, and writing resumes once there is space."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import LogError, NewRecord, StoreError
from stepstream.runtime.storage.failures import describe_failure
from stepstream.runtime.storage.journal import JournalWrite
from stepstream.runtime.storage.rocks import RocksJournal
from stepstream.runtime.storage.rocks_store import RocksStore
from tests.disk import limited_files

LIMIT_BYTES = 200_000
SPACE = "No space left on device"
FULL = r"cannot be used \(File too large\); .* free space on its disk"


def record(number: int) -> JournalWrite:
    """Return a write of one event and one row that cannot be compressed."""
    value = os.urandom(1_000)
    return JournalWrite([NewRecord("events", 0, b"k", value)], {}, [(b"t%05d" % number, value)])


def fill(journal: RocksJournal) -> int:
    """Write until the disk is full; return how many writes succeeded."""
    for number in range(10_000):
        try:
            journal.write(record(number), 0)
        except LogError:
            return number
    raise AssertionError("the disk is not full")


async def until_open(journal: RocksJournal) -> None:
    """Return when the journal was opened again, which notifies its readers."""
    opened = Notification()
    journal.notifications.add("events", opened)
    keeping = asyncio.ensure_future(journal.keep_open())
    await opened.wait(20)
    assert not journal.failure
    keeping.cancel()


@pytest.mark.slow
async def test_journal_writes_again_once_there_is_space(tmp_path: Path) -> None:
    """Nothing that was acknowledged is lost, nothing that was refused is stored, and offsets continue."""
    journal = RocksJournal(tmp_path / "db")
    with limited_files(LIMIT_BYTES):
        written = fill(journal)
        for _ in range(2):
            with pytest.raises(LogError, match=FULL):
                journal.write(record(-1), 0)
        assert str(tmp_path / "db") in journal.failure
        assert len(journal.read("events", 0, 0, 10_000)) == written
    await until_open(journal)
    assert journal.end("events", 0) == len(journal.read("events", 0, 0, 10_000)) == written
    assert len(journal.scan(b"t", 0)) == written
    assert journal.write(record(written), 0) == [(0, written)]
    journal.close()


@pytest.mark.slow
async def test_journal_is_not_opened_while_the_disk_is_full(tmp_path: Path) -> None:
    """The attempts fail with the same sentence, leave no files that take the space, and the next one succeeds."""
    journal = RocksJournal(tmp_path / "db")
    with limited_files(LIMIT_BYTES):
        written = fill(journal)
        # The file in which recovery stores the writes needs more than the journal may now have.
        with limited_files(LIMIT_BYTES // 2):
            files = None
            for _ in range(3):
                journal._reopen()
                assert "File too large" in journal.failure
                with pytest.raises(LogError, match=FULL):
                    journal.read("events", 0, 0, 1)
                with pytest.raises(StoreError, match=FULL):
                    journal.get(b"t00000")
                assert files in (None, len(list((tmp_path / "db").iterdir())))
                files = len(list((tmp_path / "db").iterdir()))
    await until_open(journal)
    assert journal.end("events", 0) == written
    journal.close()


def test_journal_that_was_deleted_is_not_created_again(tmp_path: Path) -> None:
    """An empty one has no functions: it would accept events that start nothing, so the failure stays."""
    journal = RocksJournal(tmp_path / "db")
    journal.write(record(0), 0)
    shutil.rmtree(tmp_path / "db")
    journal._reopen()
    assert "is corrupt (Corruption: the file CURRENT is missing); restore the folder from a copy" in journal.failure
    with pytest.raises(LogError, match="CURRENT is missing"):
        journal.read("events", 0, 0, 1)
    assert not (tmp_path / "db").exists()
    journal.close()


def test_closing_a_journal_on_a_full_disk_raises_nothing(tmp_path: Path) -> None:
    """The process ends as on any other day, and the next one finds all writes."""
    journal = RocksJournal(tmp_path / "db")
    with limited_files(LIMIT_BYTES):
        written = fill(journal)
        journal.close()
    journal = RocksJournal(tmp_path / "db")
    assert journal.end("events", 0) == written
    journal.close()


def test_tables_of_a_shard_keep_what_they_have(tmp_path: Path) -> None:
    """The shard restarts and reads its changelog from the position that the tables still have."""
    store = RocksStore(tmp_path / "shard-3", lambda: 0, 1)
    store.open()

    def write_all() -> None:
        for number in range(10_000):
            store.write([(b"t%05d" % number, os.urandom(1_000))], number + 1)

    with limited_files(LIMIT_BYTES):
        with pytest.raises(StoreError, match=FULL) as refused:
            write_all()
        position = len(store.scan(b"t", 0))
        assert str(tmp_path / "shard-3") in str(refused.value)
        store.close()
    store = RocksStore(tmp_path / "shard-3", lambda: 0, 1)
    assert (store.open(), len(store.scan(b"t", 0))) == (position, position)
    store.close()


@pytest.mark.parametrize(
    ("text", "cause", "remedy"),
    [
        # RocksDB repeats the cause after the name of the file.
        (f"IO error: {SPACE}: While appending to file: /x/1.log: {SPACE}", SPACE, "free space on its disk"),
        ("IO error: While open a file for appending: /x/0.dbtmp: Too many open files", "Too many open files", "ulimit"),
        # Only who may mount a disk can make one that is read-only.
        ("IO error: While lock file: /x/LOCK: Read-only file system", "Read-only file system", "make its disk"),
        ("[Errno 13] Permission denied: '/x'", "Permission denied", "make it writable for the user"),
        ("disk I/O\nerror", "disk I/O error", "check its disk"),
    ],
    ids=["space", "files", "read-only", "rights", "other"],
)
def test_each_failure_of_a_disk_names_its_remedy(text: str, cause: str, remedy: str) -> None:
    """One line, with the path first."""
    described = describe_failure("the tables in /x", OSError(text))
    assert described.startswith(f"the tables in /x cannot be used ({cause}); ")
    assert remedy in described
    assert "\n" not in described
