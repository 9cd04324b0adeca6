"""Who waits for the disk, and how many share one sync."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator

import pytest

from stepstream.runtime.ports import LogError
from stepstream.runtime.storage import syncing
from stepstream.runtime.storage.syncing import Fsync, Syncing
from tests.polling import until_async


class Disk:
    """A disk whose syncs end when the test says so; `syncs` counts those that began."""

    def __init__(self) -> None:
        self.syncs = 0
        self.error: Exception | None = None
        self._may_end = threading.Semaphore(0)

    def sync(self) -> None:
        """Block until `end`."""
        self.syncs += 1
        self._may_end.acquire()
        if self.error:
            raise self.error

    async def began(self) -> bool:
        """Return whether a sync began."""
        return bool(self.syncs)

    def end(self) -> None:
        """Let one sync end."""
        self._may_end.release()


@pytest.fixture
def disk() -> Iterator[Disk]:
    """Return a disk whose syncs all end with the test."""
    disk = Disk()
    yield disk
    for _ in range(100):
        disk.end()


def always(disk: Disk) -> Syncing:
    """Return what syncs each write."""
    return Syncing(Fsync.ALWAYS, disk.sync, lambda error: LogError(f"failed: {error}"))


async def test_those_that_wait_share_a_sync_but_not_one_that_began_earlier(disk: Disk) -> None:
    """A sync that began before a write may have missed it."""
    writes = always(disk)
    writes.note()
    first = asyncio.ensure_future(writes.until_synced())
    await until_async(disk.began, 10)
    later = []
    for _ in range(5):
        writes.note()
        later.append(asyncio.ensure_future(writes.until_synced()))
    disk.end()
    await first
    assert not any(task.done() for task in later)
    disk.end()
    await asyncio.gather(*later)
    assert disk.syncs == 2
    await writes.until_synced()
    assert disk.syncs == 2


async def test_a_failed_sync_reaches_all_that_wait(disk: Disk) -> None:
    """Also those that came while it ran; the next write is synced again."""
    writes, errors = always(disk), list[Exception | None]()

    async def both() -> bool:
        return len(errors) == 2

    disk.error = OSError("no space")
    for _ in range(2):
        writes.note()
        writes.after(errors.append)
    disk.end()
    await until_async(both, 10)
    assert {str(error) for error in errors} == {"failed: no space"}
    disk.error = None
    disk.end()
    writes.note()
    await writes.until_synced()


@pytest.mark.parametrize("fsync", [Fsync.INTERVAL, Fsync.NEVER])
async def test_nothing_waits_with_the_other_settings(fsync: Fsync, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """At intervals one sync is for all writes so far, and none follows without a write."""
    monkeypatch.setattr(syncing, "SYNC_EVERY_S", 0)
    writes, done = Syncing(fsync, disk.sync, lambda error: LogError(str(error))), list[Exception | None]()
    for _ in range(3):
        writes.note()
    writes.after(done.append)
    await writes.until_synced()
    assert done == [None]
    keeping = asyncio.ensure_future(writes.keep_synced())
    if fsync is Fsync.NEVER:
        await keeping
        assert disk.syncs == 0
        return
    await until_async(disk.began, 10)
    disk.end()
    for _ in range(100):
        await asyncio.sleep(0)
    assert disk.syncs == 1
    keeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeping


@pytest.mark.parametrize(("fsync", "syncs"), [(Fsync.ALWAYS, 1), (Fsync.INTERVAL, 1), (Fsync.NEVER, 0)])
def test_what_is_left_is_synced_at_the_end(fsync: Fsync, syncs: int, disk: Disk) -> None:
    """Unless that is left to the operating system."""
    writes = Syncing(fsync, disk.sync, lambda error: LogError(str(error)))
    writes.note()
    disk.end()
    writes.close()
    writes.close()
    assert disk.syncs == syncs
