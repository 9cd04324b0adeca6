"""A warm copy of a shard is used only if it has followed the changelog without a long gap."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from stepstream.contract.limits import HOUR_MS
from stepstream.contract.topics import CHANGELOG
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.kafka.shards.standby import Standby
from stepstream.runtime.kafka.topics import origin
from stepstream.runtime.ports import LogError, LogRecord, Offsets, TopicPartition
from stepstream.runtime.storage.rocks_store import RocksStore
from tests.fakes.cluster import FakeCluster, FakeReader

STALE_MS = 12 * HOUR_MS
AT = (CHANGELOG, 0)
FOLLOW_S_MAX = 60.0
ORIGIN = b"\x00origin-of-the-test"


class ChangelogReader(FakeReader):
    """A reader of the changelog, with one row per read, each of which takes some time."""

    def __init__(self, cluster: "ChangelogCluster") -> None:
        super().__init__(cluster, known=True)
        self._changelog = cluster

    async def read(self, limit: int, wait_ms: int) -> list[LogRecord]:
        """Return the next row."""
        self._changelog.clock.advance_to(self._changelog.clock.now_ms() + self._changelog.read_ms)
        if self._changelog.broker_is_down:
            await asyncio.sleep(0)
            return []
        if self._changelog.grows:
            self._changelog.append_row()
        return await super().read(limit, wait_ms)

    async def ends(self, places: Sequence[TopicPartition]) -> Offsets:
        """Return the end of the changelog."""
        if self._changelog.broker_is_down:
            raise LogError("no broker answers")
        return await super().ends(places)


class ChangelogCluster(FakeCluster):
    """A cluster with the changelog of a shard."""

    def __init__(self, clock: VirtualClock, read_ms: int) -> None:
        super().__init__()
        self.clock = clock
        self.read_ms = read_ms
        self.records_per_read = 1
        self.grows = False
        self.broker_is_down = False
        self.add([LogRecord(*AT, 0, ORIGIN, b"1", (), 0)])
        for _ in range(6):
            self.append_row()

    def append_row(self) -> None:
        """Append a row."""
        self.add([LogRecord(*AT, self.end(AT), b"row", b"1", (), 0)])

    async def reader(self, **_: Any) -> FakeReader:
        """Return a new reader."""
        return ChangelogReader(self)


class Copy:
    """A warm copy in a folder, and the process that would take it over."""

    def __init__(self, folder: Path, read_ms: int = HOUR_MS // 60) -> None:
        self.clock = VirtualClock(1_700_000_000_000)
        self.changelog = ChangelogCluster(self.clock, read_ms)
        self.folder = folder
        self.copy = Standby(self.changelog, self.tables(), self.clock, 0, 1, STALE_MS)

    def tables(self) -> RocksStore:
        """Return the tables, closed."""
        return RocksStore(self.folder / "shard-0", self.clock.now_ms, STALE_MS)

    async def follow(self, holds: Callable[[], bool]) -> str:
        """Follow until a condition holds; return why the copy ended before, or ""."""
        serving = asyncio.ensure_future(self.copy.serve())
        try:
            async with asyncio.timeout(FOLLOW_S_MAX):
                while not holds() and not serving.done():  # noqa: ASYNC110 - a condition has no event to await
                    await asyncio.sleep(0)
        finally:
            serving.cancel()
            (ended,) = await asyncio.gather(serving, return_exceptions=True)
        return str(ended) if isinstance(ended, LogError) else ""

    def taken_over_at(self) -> int:
        """Return the position at which the tables are opened."""
        store = self.tables()
        try:
            return store.open()
        finally:
            store.close()


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(origin, "_ORIGIN", ORIGIN)


@pytest.mark.parametrize("busy", [False, True])
async def test_copy_that_follows_stays_warm(tmp_path: Path, busy: bool) -> None:
    """It is used after days, of a changelog without new rows as well as of one that always grows."""
    copy = Copy(tmp_path)
    copy.changelog.grows = busy
    until = copy.clock.now_ms() + 50 * HOUR_MS
    assert await copy.follow(lambda: copy.clock.now_ms() > until) == ""
    assert copy.taken_over_at() >= 7


@pytest.mark.parametrize(("read_ms", "busy", "position"), [(100, False, 7), (100, True, 7), (2_000, True, 5 * 7)])
async def test_copy_is_warm_once_it_read_the_last_second(
    tmp_path: Path, read_ms: int, busy: bool, position: int
) -> None:
    """It has reached the end that there was a second ago, or the fifth end of a changelog that grows too fast."""
    copy = Copy(tmp_path, read_ms)
    copy.changelog.grows = busy
    warm_at: list[int | None] = []
    serving = asyncio.ensure_future(copy.copy.serve(lambda: warm_at.append(copy.copy.position)))
    async with asyncio.timeout(FOLLOW_S_MAX):
        while not warm_at:
            assert copy.copy.unready.startswith("is copied first")
            await asyncio.sleep(0)
    assert copy.copy.unready == ""
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert not copy.copy.warm
    assert copy.taken_over_at() in range(position, position + 7)


async def test_copy_that_was_disconnected_is_discarded(tmp_path: Path) -> None:
    """The changelog may have dropped deletions that it has not read, so its next owner rebuilds the tables."""
    copy = Copy(tmp_path)
    until = copy.clock.now_ms() + 30 * HOUR_MS
    assert await copy.follow(lambda: copy.copy.position == 7) == ""
    copy.changelog.broker_is_down = True
    while copy.clock.now_ms() < until:
        assert "no broker answers" in await copy.follow(lambda: False)
        copy.clock.advance_to(copy.clock.now_ms() + HOUR_MS)
    assert copy.taken_over_at() == 0


async def test_copy_that_was_suspended_applies_no_more_rows(tmp_path: Path) -> None:
    """After a suspend of the machine, the rows that it reads may follow deletions that were dropped."""
    copy = Copy(tmp_path)
    assert await copy.follow(lambda: copy.copy.position == 7) == ""
    copy.changelog.append_row()
    copy.changelog.append_row()
    copy.changelog.read_ms = 13 * HOUR_MS
    serving = asyncio.ensure_future(copy.copy.serve())
    with pytest.raises(LogError, match="was discarded"):
        await serving
    assert copy.taken_over_at() == 0
