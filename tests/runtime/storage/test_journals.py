"""The journal on disk behaves as the one in memory, and is durable."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import NewRecord
from stepstream.runtime.storage.database import InUseError
from stepstream.runtime.storage.journal import Journal, JournalWrite, MemoryJournal, MemoryStore
from stepstream.runtime.storage.rocks import RocksJournal

TOPICS = ("events", "inbox")
KEYS = st.sampled_from([b"ta", b"tb", b"tc\x00", b"tc\xff", b"u\xff\xff", b"v"])
RECORDS = st.lists(st.tuples(st.sampled_from(TOPICS), st.integers(-1, 1), st.binary(max_size=3)), max_size=4)
ROWS = st.lists(st.tuples(KEYS, st.none() | st.binary(min_size=1, max_size=3)), max_size=4)
WRITES = st.lists(st.tuples(RECORDS, ROWS, st.integers(0, 5)), max_size=12)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(writes=WRITES, reopen=st.booleans())
def test_disk_and_memory_agree(
    writes: list[tuple[list[tuple[str, int, bytes]], list[tuple[bytes, bytes | None]], int]],
    reopen: bool,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Offsets, reads, rows and scans are the same for any writes, also after the one on disk was reopened."""
    path = tmp_path_factory.mktemp("journal") / "db"
    disk, memory, tables = RocksJournal(path, 2), MemoryJournal(2), MemoryStore()
    for number, (records, rows, offset) in enumerate(writes):
        new = [NewRecord(topic, partition, key, b"v", (("h", key),)) for topic, partition, key in records]
        offsets = {"group": {("events", 0): offset}}
        assert disk.write(JournalWrite(new, offsets, rows), number) == memory.write(JournalWrite(new, offsets), number)
        tables.write(rows, 0)
        assert_same(disk, memory, tables)
    if reopen:
        disk.close()
        disk = RocksJournal(path, 2)
    assert_same(disk, memory, tables)
    disk.close()


def test_readers_are_notified_in_the_order_of_the_records(tmp_path: Path) -> None:
    """The order does not depend on the hashes of topic names, so a simulation is the same in every process."""
    topics = ["events", "inbox", "history", "changelog", "commands.shop", "functions"]
    disk, memory = RocksJournal(tmp_path / "db", 1), MemoryJournal(1)
    for journal in (disk, memory):
        notified: list[str] = []
        for topic in sorted(topics):
            journal.notifications.add(topic, RecordingNotification(notified, topic))
        journal.write(JournalWrite([NewRecord(topic, 0, b"k", b"v") for topic in topics * 2]), 1)
        assert notified == topics
    disk.close()


class RecordingNotification(Notification):
    """A notification that records the topic that it is for."""

    def __init__(self, notified: list[str], topic: str) -> None:
        super().__init__()
        self._topics, self._topic = notified, topic

    def notify(self) -> None:
        """Record the topic."""
        self._topics.append(self._topic)


def assert_same(disk: RocksJournal, memory: MemoryJournal, tables: MemoryStore) -> None:
    """Compare everything that can be read."""
    for topic in TOPICS:
        for partition in (0, 1):
            end = memory.end(topic, partition)
            assert disk.end(topic, partition) == end
            for offset, limit in ((0, 100), (end // 2, 2), (end, 1)):
                assert disk.read(topic, partition, offset, limit) == memory.read(topic, partition, offset, limit)
            assert disk.committed("group", topic, partition) == memory.committed("group", topic, partition)
    for prefix in (b"t", b"tc", b"u", b"u\xff", b"w"):
        for limit in (0, 1, 2):
            assert disk.scan(prefix, limit) == tables.scan(prefix, limit)
            assert disk.last(prefix, limit) == tables.last(prefix, limit) == tables.scan(prefix, 0)[-limit or 9 :]
            for key in (b"ta", b"tb", b"tc\x01", b"u\xff\xff"):
                if key.startswith(prefix):
                    assert disk.scan(prefix, limit, key) == tables.scan(prefix, limit, key)
    for key in (b"ta", b"v", b"x"):
        assert disk.get(key) == tables.get(key)


@pytest.fixture
def other_process(tmp_path: Path) -> Iterator[Path]:
    """Have another process open a journal; return its path."""
    path = tmp_path / "db"
    code = (
        "import sys, pathlib; from stepstream.runtime.storage.rocks import RocksJournal; "
        "journal = RocksJournal(pathlib.Path(sys.argv[1])); print('open', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield path
        process.kill()


def test_second_process_is_refused(other_process: Path) -> None:
    """The error has the data directory and the remedy."""
    with pytest.raises(InUseError, match="--data-dir") as refused:
        RocksJournal(other_process)
    assert str(other_process) in str(refused.value)


@pytest.mark.slow
def test_trim_drops_only_records_before_the_offset(tmp_path: Path) -> None:
    """Reads continue at the first record that is left, and the end stays."""
    journals: list[Journal] = [RocksJournal(tmp_path / "db"), MemoryJournal()]
    for journal in journals:
        for number in range(3_000):
            journal.write(JournalWrite([NewRecord("inbox", 0, b"", str(number).encode())]), 0)
        journal.trim("inbox", 0, 2_000)
        assert [record.value for record in journal.read("inbox", 0, 2_000, 2)] == [b"2000", b"2001"]
        assert journal.read("inbox", 0, 0, 1)[0].offset == 2_000
        assert journal.end("inbox", 0) == 3_000
        journal.close()
