"""When the writes of a journal reach the disk itself, so that a power failure does not lose them."""

import asyncio
import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum

from stepstream.runtime.ports import LogError

SYNC_EVERY_S = 0.1


class Fsync(StrEnum):
    """When writes are synced to the disk. What the operating system has survives a crash of the process in any case.

    `ALWAYS` before anything depends on them, `INTERVAL` within 0.1 s, `NEVER` when the operating system does it.
    """

    ALWAYS = "always"
    INTERVAL = "interval"
    NEVER = "never"


Done = Callable[[Exception | None], object]


class Syncing:
    """Counts writes, and syncs them in a thread; `sync` returns once all earlier writes are on the disk.

    All that wait while a sync runs share the next one. `failed` receives the error of a sync that fails, and returns
    the one to raise.
    """

    def __init__(self, fsync: Fsync, sync: Callable[[], None], failed: Callable[[Exception], LogError]) -> None:
        self._fsync = fsync
        self._sync = sync
        self._failed = failed
        self._written = self._synced = 0
        self._waiting: list[tuple[int, Done]] = []
        self._task: asyncio.Task[None] | None = None
        self._thread: ThreadPoolExecutor | None = None

    def note(self) -> None:
        """Note that a write has reached the operating system."""
        self._written += 1

    @property
    def must_wait(self) -> bool:
        """Whether something that depends on the writes so far must wait."""
        return self._fsync is Fsync.ALWAYS and self._synced < self._written

    def after(self, done: Done) -> None:
        """Call `done` once nothing must wait for the writes so far, maybe at once; with the error if a sync fails."""
        if not self.must_wait:
            done(None)
            return
        self._waiting.append((self._written, done))
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._serve())

    async def until_synced(self) -> None:
        """Return once nothing must wait for the writes so far; raise the error of a sync that fails."""
        if self.must_wait:
            synced: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.after(lambda error: settle(synced, error))
            await synced

    async def keep_synced(self) -> None:
        """Sync at intervals until cancelled, if that is the setting."""
        while self._fsync is Fsync.INTERVAL:
            await asyncio.sleep(SYNC_EVERY_S)
            if self._synced < self._written:
                with contextlib.suppress(LogError):
                    await self._run()

    async def _serve(self) -> None:
        try:
            while self._waiting:
                error: Exception | None = None
                try:
                    await self._run()
                except LogError as failed:
                    error = failed
                ready = [done for at, done in self._waiting if error or at <= self._synced]
                self._waiting = [] if error else [(at, done) for at, done in self._waiting if at > self._synced]
                for done in ready:
                    done(error)
        finally:
            self._task = None

    async def _run(self) -> None:
        upto = self._written
        self._thread = self._thread or ThreadPoolExecutor(1, "fsync")
        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._sync)
        except Exception as error:
            raise self._failed(error) from error
        self._synced = upto

    def close(self) -> None:
        """Wait for a sync that runs, and sync what is left, unless that is left to the operating system."""
        if self._thread:
            self._thread.shutdown()
        if self._fsync is not Fsync.NEVER and self._synced < self._written:
            self._sync()
            self._synced = self._written


def settle(future: "asyncio.Future[None]", error: Exception | None) -> None:
    """Give a future its result or error, unless its task was cancelled."""
    if future.done():
        return
    if error:
        future.set_exception(error)
    else:
        future.set_result(None)
