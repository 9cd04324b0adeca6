"""Ports that fail at chosen calls, as faults.py has them planned."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from stepstream.contract.topics import INBOX
from stepstream.runtime.ports import Log, LogRecord, NewRecord, Offsets, RebalanceListener, StoredRow, WorkerLog
from stepstream.runtime.storage.journal import MemoryStore
from tests.sim.faults import Crash, Disk, Fault, Faults, Kind

T = TypeVar("T")
_SNAPSHOT_EVERY_WRITES = 5
# The rival must open before the owner that the engine brings up, which fences it: the engine knows only its own.
_PASSES_TO_OPEN = 3
_PASSES_HIDDEN = 12
_PASSES_HELD = 12


async def _later(passes: int, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Make a call after so many passes."""
    for _ in range(passes):
        await asyncio.sleep(0)
    await call()


async def _for_a_while(passes: int, rival: Callable[[int], Coroutine[Any, Any, None]], shard: int) -> None:
    """Let a rival serve a shard for so many passes."""
    task = asyncio.ensure_future(rival(shard))
    for _ in range(passes):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class FaultyLog:
    """A shard's log that fails at chosen calls."""

    def __init__(self, log: Log, faults: Faults, shard: int) -> None:
        self._log = log
        self._faults = faults
        self._shard = shard
        self._staged: list[NewRecord] = []
        self._hidden: list[LogRecord] = []

    async def _call(self, name: str, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        await self._faults.delay()
        fault = self._faults.next(f"log.{name}")
        if fault is None:
            return await call()
        if fault.kind is Kind.AFTER:
            await call()
        elif fault.kind is Kind.LATE and name == "commit":
            self._faults.detach(functools.partial(_later, fault.passes, call))
        elif fault.kind is Kind.ZOMBIE and self._faults.rival:
            self._faults.detach(functools.partial(_for_a_while, fault.passes, self._faults.rival, self._shard))
            for _ in range(_PASSES_TO_OPEN):
                await asyncio.sleep(0)
        raise self._crash(fault, name)

    def _crash(self, fault: Fault, name: str) -> Crash:
        self._faults.disks[self._shard] = fault.disk
        return Crash(name)

    async def open(self) -> None:
        """Open, or fail."""
        await self._call("open", self._log.open)

    async def origin(self, position: int) -> bytes:
        """Return by what the changelog is known."""
        return await self._log.origin(position)

    async def changelog(self, position: int) -> AsyncIterator[tuple[list[StoredRow], int]]:
        """Read the changelog, and perhaps crash between two batches."""
        async for rows, after in self._log.changelog(position):
            fault = self._faults.next("log.changelog")
            if fault and fault.kind is not Kind.AFTER:
                raise self._crash(fault, "changelog")
            yield rows, after
            if fault:
                raise self._crash(fault, "changelog")

    async def seek(self, positions: Offsets) -> None:
        """Seek, or fail."""
        await self._call("seek", lambda: self._log.seek(positions))

    async def poll(self, limit: int, until_ms: int | None) -> list[LogRecord]:
        """Poll; a crash after it loses what was read."""
        return await self._call("poll", lambda: self._poll(limit, until_ms))

    async def more(self, limit: int, until_ms: int | None) -> list[LogRecord]:  # noqa: ARG002 - passes are no time
        """Hold a batch back now and then, until something came or for a while; a crash after it loses what was read."""
        if not self._faults.holds():
            return []
        for _ in range(_PASSES_HELD):
            if records := await self._call("more", lambda: self._poll(limit, 0)):
                return records
            await asyncio.sleep(0)
        return []

    async def _poll(self, limit: int, until_ms: int | None) -> list[LogRecord]:
        if not self._hidden:
            records = await self._log.poll(limit, until_ms)
            self._hide(records, self._faults.hides())
        else:
            # What is behind another's open transaction is hidden while records of other partitions are seen.
            reading = asyncio.ensure_future(self._log.poll(limit, until_ms))
            for _ in range(_PASSES_HIDDEN):
                await asyncio.sleep(0)
            reading.cancel()
            (read,) = await asyncio.gather(reading, return_exceptions=True)
            records = [] if isinstance(read, BaseException) else read
            self._hide(records, True)
        shown = [record for record in records if record not in self._hidden]
        return shown or self._show()

    def _hide(self, records: Sequence[LogRecord], hides: bool) -> None:
        found = [record for record in records if hides and record.topic == INBOX]
        self._hidden += found
        self._faults.hidden += len(found)

    def _show(self) -> list[LogRecord]:
        shown, self._hidden = self._hidden, []
        self._faults.hidden -= len(shown)
        return shown

    async def begin(self) -> None:
        """Begin, or fail."""
        self._staged = []
        await self._call("begin", self._log.begin)

    async def send(self, records: Sequence[NewRecord], rows: Sequence[StoredRow]) -> None:
        """Send, or fail."""
        self._staged += records
        await self._call("send", lambda: self._log.send(records, rows))

    async def commit(self, taken: Offsets) -> int:
        """Commit after a moment, as a broker does; a crash after it leaves the store behind."""
        return await self._call("commit", lambda: self._commit(taken))

    async def _commit(self, taken: Offsets) -> int:
        for _ in range(3):
            await asyncio.sleep(0)
        position = await self._log.commit(taken)
        self._faults.committed(self._staged)
        return position

    async def close(self) -> None:
        """Close; the dead do not crash again, and what was hidden from them is there for the next."""
        self._show()
        await self._log.close()


class FaultyStore:
    """A shard's tables that fail at chosen calls, and come up stale or empty."""

    def __init__(self, store: MemoryStore, faults: Faults, shard: int) -> None:
        self._store = store
        self._faults = faults
        self._shard = shard
        self._writes = 0
        self._before: tuple[list[tuple[bytes, bytes]], int] = ([], 0)

    def _call(self, name: str, call: Callable[[], T]) -> T:
        fault = self._faults.next(f"store.{name}")
        if fault is None:
            return call()
        if fault.kind is Kind.AFTER:
            call()
        self._faults.disks[self._shard] = fault.disk
        if fault.disk is Disk.STALE:
            self._remember()
        raise Crash(name)

    def _remember(self) -> None:
        """Leave an older state on the disk for the next owner."""
        rows, position = self._before
        self._store.rows.clear()
        self._store.rows.update(rows)
        self._store.position = position

    def open(self) -> int:
        """Open, with what the disk still has."""
        if self._faults.disks.pop(self._shard, Disk.KEPT) is Disk.WIPED:
            self._store.rows.clear()
            self._store.position = 0
        self._before = (list(self._store.rows.items()), self._store.position)
        return self._call("open", self._store.open)

    def get(self, key: bytes) -> bytes | None:
        """Read a row."""
        return self._call("get", lambda: self._store.get(key)) if self._faults.reads else self._store.get(key)

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Read rows."""
        if self._faults.reads:
            return self._call("scan", lambda: self._store.scan(prefix, limit, after))
        return self._store.scan(prefix, limit, after)

    def last(self, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Read rows."""
        if self._faults.reads:
            return self._call("last", lambda: self._store.last(prefix, limit))
        return self._store.last(prefix, limit)

    def write(self, rows: Sequence[StoredRow], position: int) -> None:
        """Write, or fail; now and then a state is remembered as the stale one."""
        self._writes += 1
        if self._writes % _SNAPSHOT_EVERY_WRITES == 0 and self._faults.plan:
            self._before = (list(self._store.rows.items()), self._store.position)
        self._call("write", lambda: self._store.write(rows, position))

    def discard(self) -> None:
        """Fail: no table of the simulation is of another changelog."""
        raise AssertionError("tables were thrown away that are those of their changelog")

    def close(self) -> None:
        """Close; a disk that is to be stale falls back here."""
        if self._faults.disks.get(self._shard) is Disk.STALE:
            self._remember()
            self._faults.disks[self._shard] = Disk.KEPT
        self._store.close()


class FaultyWorkerLog:
    """A worker's log that fails at chosen calls; a crash kills the whole worker."""

    def __init__(self, log: WorkerLog, faults: Faults, worker: str) -> None:
        self._log = log
        self._faults = faults
        self._worker = worker
        self._left = False

    async def _call(self, name: str, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        await self._faults.delay()
        # The next has begun by then; its process may still be killed, by a drain that is cut short.
        fault = None if self._left else self._faults.next(f"worker.{name}")
        if fault is None:
            return await call()
        if fault.kind is Kind.LEAVE and self._faults.retire:
            self._faults.detach(functools.partial(self._faults.retire, self._worker, fault.passes))
            return await call()
        if fault.kind is Kind.TWICE and name == "append":
            await call()
            return await call()
        if fault.kind is Kind.AFTER:
            done = await call()
            if self._left:
                return done
        elif fault.kind is Kind.LATE and name == "append":
            self._faults.detach(functools.partial(_later, fault.passes, call))
        raise Crash(name)

    async def open(self, listener: RebalanceListener) -> None:
        """Open, or fail."""
        await self._call("open", functools.partial(self._log.open, listener))

    async def until_member(self) -> None:
        """Nothing to wait for: a zombie of the simulation is one between its calls."""
        await self._log.until_member()

    def is_fresh(self, record: LogRecord) -> bool:
        """Tell whether no other worker can have begun this command."""
        return self._log.is_fresh(record)

    async def poll(self, limit: int) -> list[LogRecord]:
        """Poll; a crash after it loses what was read."""
        return await self._call("poll", lambda: self._log.poll(limit))

    async def append(self, routing_key: str, value: bytes) -> None:
        """Append, or fail; after a crash the report may be durable without anybody having heard of it."""
        await self._call("append", lambda: self._log.append(routing_key, value))

    async def dead_letter(self, record: NewRecord) -> None:
        """Keep what cannot be read, or fail."""
        await self._call("put_aside", lambda: self._log.dead_letter(record))

    async def commit(self, offsets: Offsets) -> None:
        """Commit, or fail."""
        await self._call("commit", lambda: self._log.commit(offsets))

    async def leave(self) -> None:
        """Leave, or fail; the next worker may begin."""
        await self._call("leave", self._log.leave)
        self._left = True
        self._faults.left.add(self._worker)

    async def close(self) -> None:
        """Close."""
        await self._log.close()


def wrap_port(faults: Faults, name: str, port: Any) -> FaultyLog | FaultyStore | FaultyWorkerLog:
    """Return a port that fails as planned; `name` is that which the engine gives it."""
    kind, _, place = name.partition("-")
    match kind:
        case "log":
            return FaultyLog(port, faults, int(place))
        case "store":
            return FaultyStore(port, faults, int(place))
        case _:
            return FaultyWorkerLog(port, faults, place)
