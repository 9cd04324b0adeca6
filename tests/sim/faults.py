"""Ports that fail: a crash before or after a chosen call, and a store that loses what it had."""

import asyncio
import copy
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from stepstream.runtime.journal import MemoryStore
from stepstream.runtime.ports import Log, LogRecord, NewRecord, Offsets, Store, StoredRow, WorkerLog

BEFORE, AFTER = "before", "after"


class Crash(Exception):
    """The process of this part dies here."""


@dataclass(slots=True)
class Faults:
    """Which calls crash, by their number over all ports; `calls` counts them. A crash may lose the tables as well.

    `twice` are the calls whose report comes twice, as when a producer tries again.
    """

    plan: dict[int, str] = field(default_factory=dict)
    lose: dict[int, str] = field(default_factory=dict)
    twice: set[int] = field(default_factory=set)
    calls: int = 0
    crashes: int = 0
    names: list[str] = field(default_factory=list)
    snapshots: dict[int, tuple[Any, int]] = field(default_factory=dict)

    def begin(self, name: str) -> int:
        """Count a call; crash if it is to happen before."""
        number = self.calls
        self.calls += 1
        self.names.append(name)
        if self.plan.get(number) == BEFORE:
            self.crash(name)
        return number

    def end(self, number: int, name: str) -> None:
        """Crash if it is to happen after the call."""
        if self.plan.get(number) == AFTER:
            self.crash(name)

    def crash(self, name: str) -> None:
        """Die."""
        self.crashes += 1
        raise Crash(name)


class FaultyLog:
    """A shard's log that may crash at each call."""

    def __init__(self, log: Log, faults: Faults) -> None:
        self._log = log
        self._faults = faults

    async def open(self) -> None:
        """Open, or crash."""
        at = self._faults.begin("log.open")
        await self._log.open()
        self._faults.end(at, "log.open")

    async def changelog(self, position: int) -> AsyncIterator[tuple[list[StoredRow], int]]:
        """Read the changelog, and perhaps crash between two batches."""
        async for rows, after in self._log.changelog(position):
            at = self._faults.begin("log.changelog")
            yield rows, after
            self._faults.end(at, "log.changelog")

    async def seek(self) -> None:
        """Seek, or crash."""
        at = self._faults.begin("log.seek")
        await self._log.seek()
        self._faults.end(at, "log.seek")

    async def poll(self, limit: int, until_ms: int | None) -> list[LogRecord]:
        """Poll; a crash after it loses what was read."""
        records = await self._log.poll(limit, until_ms)
        self._faults.end(self._faults.begin("log.poll"), "log.poll")
        return records

    async def begin(self) -> None:
        """Begin, or crash."""
        at = self._faults.begin("log.begin")
        await self._log.begin()
        self._faults.end(at, "log.begin")

    async def send(self, records: Sequence[NewRecord], rows: Sequence[StoredRow]) -> None:
        """Send, or crash."""
        at = self._faults.begin("log.send")
        await self._log.send(records, rows)
        self._faults.end(at, "log.send")

    async def send_offsets(self, offsets: Offsets) -> None:
        """Send offsets, or crash."""
        at = self._faults.begin("log.send_offsets")
        await self._log.send_offsets(offsets)
        self._faults.end(at, "log.send_offsets")

    async def commit(self) -> int:
        """Commit; a crash after it leaves the store behind."""
        at = self._faults.begin("log.commit")
        position = await self._log.commit()
        self._faults.end(at, "log.commit")
        return position

    async def close(self) -> None:
        """Close; the dead do not crash again."""
        await self._log.close()


class FaultyStore:
    """A store that may crash at each write, and come up stale or empty."""

    def __init__(self, store: MemoryStore, faults: Faults) -> None:
        self._store = store
        self._faults = faults

    def open(self) -> int:
        """Open, with what the disk still has."""
        match self._faults.lose.get(self._faults.crashes):
            case "wiped":
                self._store.rows.clear()
                self._store.position = 0
            case "stale" if id(self._store) in self._faults.snapshots:
                rows, self._store.position = self._faults.snapshots[id(self._store)]
                self._store.rows = copy.copy(rows)
            case _:
                pass
        return self._store.open()

    def get(self, key: bytes) -> bytes | None:
        """Read a row."""
        return self._store.get(key)

    def scan(self, prefix: bytes, limit: int) -> list[tuple[bytes, bytes]]:
        """Read rows."""
        return self._store.scan(prefix, limit)

    def write(self, rows: Sequence[StoredRow], position: int) -> None:
        """Write, or crash; every seventh state is remembered as the stale one."""
        at = self._faults.begin("store.write")
        if at % 7 == 0:
            self._faults.snapshots[id(self._store)] = (copy.copy(self._store.rows), self._store.position)
        self._store.write(rows, position)
        self._faults.end(at, "store.write")

    def close(self) -> None:
        """Close."""
        self._store.close()


class FaultyWorkerLog:
    """A worker's log that may crash at each call; a crash kills the whole worker."""

    def __init__(self, log: WorkerLog, faults: Faults) -> None:
        self._log = log
        self._faults = faults

    async def open(self) -> None:
        """Open, or crash."""
        at = self._faults.begin("worker.open")
        await self._log.open()
        self._faults.end(at, "worker.open")

    def is_fresh(self, record: LogRecord) -> bool:
        """Tell whether no other worker can have begun this command."""
        return self._log.is_fresh(record)

    async def poll(self, limit: int) -> list[LogRecord]:
        """Poll; a crash after it loses what was read."""
        records = await self._log.poll(limit)
        self._faults.end(self._faults.begin("worker.poll"), "worker.poll")
        return records

    async def append(self, routing_key: str, value: bytes) -> None:
        """Append, or crash; after a crash the report may be durable without anybody having heard of it."""
        at = self._faults.begin("worker.append")
        await self._log.append(routing_key, value)
        if at in self._faults.twice:
            await self._log.append(routing_key, value)
        self._faults.end(at, "worker.append")

    async def commit(self, offsets: Offsets) -> None:
        """Commit, or crash."""
        at = self._faults.begin("worker.commit")
        await self._log.commit(offsets)
        self._faults.end(at, "worker.commit")

    async def close(self) -> None:
        """Close."""
        await self._log.close()
        await asyncio.sleep(0)


def wrap_port(faults: Faults, name: str, port: Any) -> Log | Store | WorkerLog:
    """Return a port that fails as planned."""
    if name.startswith("log"):
        return FaultyLog(port, faults)
    return FaultyStore(port, faults) if name.startswith("store") else FaultyWorkerLog(port, faults)
