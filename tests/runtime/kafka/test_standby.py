"""A warm copy of a shard is taken over only when it has followed its changelog all the time."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest

from stepstream.contract.limits import HOUR_MS
from stepstream.contract.topics import CHANGELOG
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.kafka import origin
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.standby import Standby
from stepstream.runtime.ports import LogError, LogRecord
from stepstream.runtime.storage.rocks import RocksStore

STALE_MS = 12 * HOUR_MS
AT = (CHANGELOG, 0)
ORIGIN = b"\x00origin-of-the-test"


class Changelog:
    """The changelog of a shard and what reads it; each read takes some time."""

    def __init__(self, clock: VirtualClock, read_ms: int) -> None:
        self.clock = clock
        self.read_ms = read_ms
        self.rows = 7
        self.is_busy = False
        self.is_away = False
        self._at = 0
        self._first = True

    async def reader(self, **_: object) -> "Changelog":
        """Return what reads."""
        return self

    def assign(self, _: object) -> None:
        """Read the one that there is."""

    def seek(self, positions: dict[tuple[str, int], int]) -> None:
        """Go there."""
        self._at = positions[AT]
        self._first = self._at == 0

    async def beginnings(self, _: object) -> dict[tuple[str, int], int]:
        """Return where it begins."""
        return {AT: 0}

    async def ends(self, _: object) -> dict[tuple[str, int], int]:
        """Return where it ends; one that is busy has grown meanwhile."""
        if self.is_away:
            raise LogError("no broker answers")
        self.rows += self.is_busy
        return {AT: self.rows}

    async def position(self, _: object) -> int:
        """Return from where the next read goes on."""
        return self._at

    async def read(self, _limit: int, _wait_ms: int) -> list[LogRecord]:
        """Return the next row, after a while."""
        await asyncio.sleep(0)
        self.clock.advance_to(self.clock.now_ms() + self.read_ms)
        if self.is_away or self._at >= self.rows:
            return []
        self._at += 1
        self.rows += self.is_busy
        key = ORIGIN if self._at == 1 else b"row"
        return [LogRecord(*AT, self._at - 1, key, b"%d" % self._at, (), 0)]

    async def close(self) -> None:
        """Let go."""


class Copy:
    """A copy in a folder, and who would take it over."""

    def __init__(self, folder: Path, read_ms: int = HOUR_MS // 60) -> None:
        self.clock = VirtualClock(1_700_000_000_000)
        self.changelog = Changelog(self.clock, read_ms)
        self.folder = folder
        self.copy = Standby(cast(Cluster, self.changelog), self.tables(), self.clock, 0, STALE_MS)

    def tables(self) -> RocksStore:
        """Return the tables as whoever opens them has them."""
        return RocksStore(self.folder / "shard-0", self.clock.now_ms, STALE_MS)

    async def follow(self, holds: Callable[[], bool]) -> str:
        """Follow until something holds; return why it ended by itself before, or nothing."""
        serving = asyncio.ensure_future(self.copy.serve())
        while not holds() and not serving.done():  # noqa: ASYNC110 - nobody tells when it does
            await asyncio.sleep(0)
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
async def test_a_copy_that_follows_stays_warm(tmp_path: Path, busy: bool) -> None:
    """A quiet changelog that the brokers say is at its end, and one that always grows: days later it is as good."""
    copy = Copy(tmp_path)
    copy.changelog.is_busy = busy
    until = copy.clock.now_ms() + 50 * HOUR_MS
    assert await copy.follow(lambda: copy.clock.now_ms() > until) == ""
    assert copy.taken_over_at() >= 7


async def test_a_copy_that_was_cut_off_is_made_anew(tmp_path: Path) -> None:
    """It heard nothing, and cannot know what was deleted and forgotten meanwhile: whoever takes it over begins anew."""
    copy = Copy(tmp_path)
    until = copy.clock.now_ms() + 30 * HOUR_MS
    assert await copy.follow(lambda: copy.copy.position == 7) == ""
    copy.changelog.is_away = True
    while copy.clock.now_ms() < until:
        assert "no broker answers" in await copy.follow(lambda: False)
        copy.clock.advance_to(copy.clock.now_ms() + HOUR_MS)
    assert copy.taken_over_at() == 0


async def test_a_copy_that_stood_still_takes_nothing_more(tmp_path: Path) -> None:
    """As on a machine that was asleep: what it reads afterwards may lie behind deletions that are forgotten."""
    copy = Copy(tmp_path)
    assert await copy.follow(lambda: copy.copy.position == 7) == ""
    copy.changelog.rows = 9
    copy.changelog.read_ms = 13 * HOUR_MS
    serving = asyncio.ensure_future(copy.copy.serve())
    with pytest.raises(LogError, match="was discarded"):
        await serving
    assert copy.taken_over_at() == 0
