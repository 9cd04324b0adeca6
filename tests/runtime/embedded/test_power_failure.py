"""What a power failure leaves of a process: a copy of its folder with no more than what syncs wrote to the disk."""

import asyncio
import shutil
import threading
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from stepstream import App, Context, Event, on
from stepstream.contract.history import HistoryEntry, RunEnded
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.embedded.log import EmbeddedBackbone
from stepstream.runtime.embedded.process import EmbeddedEngine, EngineOptions
from stepstream.runtime.readmodel.index import RUNS_FILE, RunIndex
from stepstream.runtime.storage.database import Database
from stepstream.runtime.storage.rocks import RocksJournal
from stepstream.runtime.storage.syncing import Fsync
from stepstream.sdk.event import to_record

# So many that history is dropped meanwhile.
RUNS = 300
# A slow disk: so many iterations of the event loop happen between two syncs.
ITERATIONS_PER_SYNC = 30


class Disk:
    """Knows how much of each file a sync has written: RocksDB appends to its log, and SQLite to its own."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        self.syncs = 0
        self._turns = threading.Semaphore(0)
        self._sizes: dict[str, int] = {}
        sync = Database.sync

        def slow(database: Database) -> None:
            sizes = {path.name: path.stat().st_size for path in (folder / "db").glob("*.log")}
            self._turns.acquire()
            sync(database)
            self._sizes = sizes
            self.syncs += 1

        monkeypatch.setattr(Database, "sync", slow)

    async def be_slow(self) -> None:
        """Let one sync end from time to time: until then, much more may be written."""
        while True:
            for _ in range(ITERATIONS_PER_SYNC):
                await asyncio.sleep(0)
            self._turns.release()

    def be_fast(self) -> None:
        """Let all syncs end at once from now on."""
        self._turns.release(1_000_000)

    def after_power_failure(self, place: Path, *, spares_list: bool) -> Path:
        """Return a copy of the folder without what no sync has written; it may spare the list of runs."""
        sizes = dict(self._sizes)
        shutil.copytree(self.folder, place)
        for log in (place / "db").glob("*.log"):
            with log.open("r+b") as file:
                file.truncate(sizes.get(log.name, 0))
        for end in () if spares_list else ("-wal", "-shm"):
            (place / f"{RUNS_FILE}{end}").unlink(missing_ok=True)
        return place


class Sent(msgspec.Struct):
    """An event in the list."""

    id: str


class Listed(msgspec.Struct):
    """A run in the list."""

    status: str
    events: list[Sent]


class Process:
    """An engine on a folder. `began` has the runs whose first body began; `saw` what each second body was given."""

    def __init__(self, folder: Path, fsync: Fsync) -> None:
        self.acknowledged: set[str] = set()
        self.began: set[str] = set()
        self.saw: list[tuple[str, str]] = []
        self.ended: Counter[str] = Counter()
        self.index = RunIndex(folder / RUNS_FILE, is_synced=fsync is not Fsync.NEVER)
        self.journal = RocksJournal(folder / "db", fsync=fsync)
        clock = SystemClock()
        backbone = EmbeddedBackbone(self.journal, clock, 1, self.index.sync)
        self.engine = EmbeddedEngine([self._app()], backbone, clock, self.index, EngineOptions(watch=self._watch))

    def _app(self) -> App:
        app = App("power")

        @app.function(on("go"))
        async def two_steps(ctx: Context) -> str:
            async def first() -> str:
                self.began.add(ctx.run_id)
                return f"{ctx.run_id} {id(self)}"

            async def second(value: str) -> str:
                self.saw.append((ctx.run_id, value))
                return value

            return await ctx.step.run("second", second, await ctx.step.run("first", first))

        return app

    def _watch(self, entry: HistoryEntry) -> None:
        if isinstance(entry, RunEnded):
            self.ended[entry.run_id] += 1

    async def send(self) -> None:
        """Send one event after another, and note those that were acknowledged."""
        for number in range(RUNS):
            self.acknowledged.update(await self.engine.send([to_record(Event("go", {"n": number}))]))

    def listed(self) -> dict[str, str]:
        """Return the status of each run in the list, by the id of its event."""
        runs = msgspec.convert(self.index.list(limit=10 * RUNS), list[Listed], from_attributes=True)
        return {event.id: run.status for run in runs for event in run.events}

    async def stop(self) -> None:
        """Stop and close everything."""
        await self.engine.stop(drain_s=0)
        self.index.close()
        self.journal.close()


async def one_iteration() -> None:
    """Let the event loop do one iteration."""
    await asyncio.sleep(0)


async def fail_after(
    syncs: int, fsync: Fsync, tmp_path: Path, disk: Disk, *, spares_list: bool
) -> tuple[Process, Process]:
    """Run a process until its disk has made so many syncs; return it, and the one that continues what is left."""
    before, slowness = Process(disk.folder, fsync), asyncio.ensure_future(disk.be_slow())
    await before.engine.start()
    disk.syncs = 0
    sending = asyncio.ensure_future(before.send())
    while disk.syncs < syncs and not (sending.done() and await before.engine.is_idle()):
        await one_iteration()
    for _ in range(ITERATIONS_PER_SYNC - 5):
        await one_iteration()
    left = disk.after_power_failure(tmp_path / "left", spares_list=spares_list)
    acknowledged, began, saw = set(before.acknowledged), set(before.began), list(before.saw)
    disk.be_fast()
    for task in (sending, slowness):
        task.cancel()
    await asyncio.gather(sending, slowness, return_exceptions=True)
    await before.stop()
    before.acknowledged, before.began, before.saw = acknowledged, began, saw
    after = Process(left, fsync)
    await after.engine.start()
    await after.engine.until_idle()
    return before, after


@pytest.mark.parametrize("spares_list", [False, True])
@pytest.mark.parametrize("syncs", [0, 1, 2, 7, 40, 100_000])
async def test_a_power_failure_loses_nothing_that_was_synced(
    syncs: int, spares_list: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every acknowledged event has its run, as each body has; no body saw a result that another one replaced."""
    disk = Disk(tmp_path / "first", monkeypatch)
    before, after = await fail_after(syncs, Fsync.ALWAYS, tmp_path, disk, spares_list=spares_list)
    assert before.acknowledged <= after.listed().keys()
    assert set(after.listed().values()) <= {"completed"}
    assert set(after.ended.values()) <= {1}
    assert all(after.index.show(run_id) for run_id in before.began)
    for run_id, value in before.saw:
        shown = after.index.show(run_id)
        assert shown is not None
        assert shown.output == value
    await after.stop()


async def test_without_syncs_a_power_failure_loses_acknowledged_events(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the test above would notice. If the list of runs has more than the journal, later runs are added to it."""
    disk = Disk(tmp_path / "first", monkeypatch)
    before, after = await fail_after(100_000, Fsync.NEVER, tmp_path, disk, spares_list=True)
    lost = after.listed().keys()
    assert lost == before.acknowledged
    assert not after.ended
    (id,) = await after.engine.send([to_record(Event("go"))])
    await after.engine.until_idle()
    assert after.listed() == dict.fromkeys([*lost, id], "completed")
    await after.stop()
