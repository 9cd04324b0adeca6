"""Ports that fail at the calls which a Faults has planned."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from stepstream.contract.topics import INBOX
from stepstream.runtime.ports import Log, LogRecord, NewRecord, Offsets, Origin, RebalanceListener, StoredRow, WorkerLog
from stepstream.runtime.storage.journal import MemoryStore
from tests.sim.faults import Crash, Disk, Fault, Faults, Kind

T = TypeVar("T")
_SNAPSHOT_EVERY_WRITES = 5
# The rival must open before the owner that the engine starts, which fences it: the engine knows only its own owners.
_PASSES_TO_OPEN = 3
_PASSES_HIDDEN = 12
_PASSES_HELD = 12


async def _later(passes: int, call: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Make a call after so many passes of the loop."""
    for _ in range(passes):
        await asyncio.sleep(0)
    await call()


async def _serve_for(passes: int, rival: Callable[[int], Coroutine[Any, Any, None]], shard: int) -> None:
    """Have a rival serve a shard for so many passes of the loop."""
    task = asyncio.ensure_future(rival(shard))
    for _ in range(passes):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class FaultyLog:
    """The log of a shard, which fails at planned calls."""

    def __init__(self, log: Log, faults: Faults, shard: int) -> None:
        self._log = log
        self._faults = faults
        self._shard = shard
        self._staged: list[NewRecord] = []
        self._rows: list[StoredRow] = []
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
            self._faults.detach(functools.partial(_serve_for, fault.passes, self._faults.rival, self._shard))
            for _ in range(_PASSES_TO_OPEN):
                await asyncio.sleep(0)
        raise self._crash(fault, name)

    def _crash(self, fault: Fault, name: str) -> Crash:
        self._faults.disks[self._shard] = fault.disk
        return Crash(name)

    async def open(self) -> None:
        """Open, or fail."""
        await self._call("open", self._log.open)

    async def origin(self) -> Origin:
        """Return what identifies the changelog."""
        return await self._log.origin()

    def topic_id(self, topic: str) -> str:
        """Return the id of a topic."""
        return self._log.topic_id(topic)

    async def changelog(self, position: int) -> AsyncIterator[tuple[list[StoredRow], int]]:
        """Read the changelog, or fail before or after a batch."""
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
        """Poll, or fail; a crash after it loses the records that were read."""
        return await self._call("poll", lambda: self._poll(limit, until_ms))

    async def more(self, limit: int, until_ms: int | None) -> list[LogRecord]:  # noqa: ARG002 - a pass takes no time
        """Wait for more records of a batch for a few passes, at random, or fail."""
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
            # Records after an open transaction stay hidden while those of other partitions are visible.
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
        """Begin a transaction, or fail."""
        self._staged, self._rows = [], []
        await self._call("begin", self._log.begin)

    async def send(self, records: Sequence[NewRecord], rows: Sequence[StoredRow]) -> None:
        """Send, or fail."""
        self._staged += records
        self._rows += rows
        await self._call("send", lambda: self._log.send(records, rows))

    async def commit(self, taken: Offsets) -> int:
        """Commit after a few passes, as a broker does, or fail; a crash after it leaves the store out of date."""
        return await self._call("commit", lambda: self._commit(taken))

    async def _commit(self, taken: Offsets) -> int:
        for _ in range(3):
            await asyncio.sleep(0)
        position = await self._log.commit(taken)
        self._faults.committed(self._shard, self._staged, self._rows)
        return position

    async def close(self) -> None:
        """Close; a closed log does not fail, and the next owner sees the records that were hidden."""
        self._show()
        await self._log.close()


class FaultyStore:
    """The tables of a shard, which fail at planned calls, and are stale or empty after some crashes."""

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
            self._restore()
        raise Crash(name)

    def _restore(self) -> None:
        """Replace the rows by those of an older state, which the next owner finds on its disk."""
        rows, position = self._before
        self._store.rows.clear()
        self._store.rows.update(rows)
        self._store.position = position

    def open(self) -> int:
        """Open, with the rows that the disk still has, or fail."""
        if self._faults.disks.pop(self._shard, Disk.KEPT) is Disk.WIPED:
            self._store.rows.clear()
            self._store.position = 0
        self._before = (list(self._store.rows.items()), self._store.position)
        return self._call("open", self._store.open)

    def get(self, key: bytes) -> bytes | None:
        """Read a row, or fail."""
        return self._call("get", lambda: self._store.get(key)) if self._faults.reads else self._store.get(key)

    def scan(self, prefix: bytes, limit: int, after: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Read the rows after a key, or fail."""
        if self._faults.reads:
            return self._call("scan", lambda: self._store.scan(prefix, limit, after))
        return self._store.scan(prefix, limit, after)

    def last(self, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Read the last rows, or fail."""
        if self._faults.reads:
            return self._call("last", lambda: self._store.last(prefix, limit))
        return self._store.last(prefix, limit)

    def write(self, rows: Sequence[StoredRow], position: int) -> None:
        """Write, or fail; every few writes the current state is saved as the stale one."""
        self._writes += 1
        if self._writes % _SNAPSHOT_EVERY_WRITES == 0 and self._faults.plan:
            self._before = (list(self._store.rows.items()), self._store.position)
        self._call("write", lambda: self._store.write(rows, position))

    def discard(self) -> None:
        """Fail: in the simulation, tables always belong to their changelog."""
        raise AssertionError("tables were discarded although they belong to their changelog")

    def set_aside(self) -> str:
        """Fail: in the simulation, tables always belong to their changelog."""
        raise AssertionError("tables were set aside although they belong to their changelog")

    def close(self) -> None:
        """Close; this is when a disk that is planned to be stale loses its newest rows."""
        if self._faults.disks.get(self._shard) is Disk.STALE:
            self._restore()
            self._faults.disks[self._shard] = Disk.KEPT
        self._store.close()


class FaultyWorkerLog:
    """The log of a worker, which fails at planned calls; a crash kills the whole worker."""

    def __init__(self, log: WorkerLog, faults: Faults, worker: str) -> None:
        self._log = log
        self._faults = faults
        self._worker = worker
        self._left = False

    async def _delay(self, name: str) -> None:  # noqa: ARG002 - other logs delay some calls in another way
        """Delay a call, at random."""
        await self._faults.delay()

    async def _call(self, name: str, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        await self._delay(name)
        # After it has left, its successor is running, and it is killed only by a drain that is cut short.
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
        if self._faults.opened:
            self._faults.opened(listener, self._worker)
        await self._call("open", functools.partial(self._log.open, listener))

    async def until_member(self) -> None:
        """Return at once: this log has no group that could exclude its worker."""
        await self._log.until_member()

    def is_fresh(self, record: LogRecord) -> bool:
        """Return whether no other worker can have started this command."""
        return self._log.is_fresh(record)

    async def poll(self, limit: int) -> list[LogRecord]:
        """Poll, or fail; a crash after it loses the records that were read."""
        return await self._call("poll", lambda: self._log.poll(limit))

    async def append(self, routing_key: str, value: bytes) -> None:
        """Append, or fail; after a crash the report may be durable although its worker never learned it."""
        await self._call("append", lambda: self._log.append(routing_key, value))

    async def dead_letter(self, record: NewRecord) -> None:
        """Write a dead letter, or fail."""
        await self._call("dead_letter", lambda: self._log.dead_letter(record))

    async def commit(self, offsets: Offsets) -> None:
        """Commit, or fail."""
        await self._call("commit", lambda: self._log.commit(offsets))

    async def leave(self) -> None:
        """Leave, or fail; the successor of the worker may start."""
        await self._call("leave", self._log.leave)
        self._left = True
        self._faults.left.add(self._worker)

    async def close(self) -> None:
        """Close."""
        await self._log.close()


def wrap_port(faults: Faults, name: str, port: Any) -> FaultyLog | FaultyStore | WorkerLog:
    """Return a port that fails as planned; `name` is the one that the engine gives to it."""
    kind, _, place = name.partition("-")
    match kind:
        case "log":
            return FaultyLog(port, faults, int(place))
        case "store":
            return FaultyStore(port, faults, int(place))
        case _:
            return (faults.worker_log or FaultyWorkerLog)(port, faults, place)
