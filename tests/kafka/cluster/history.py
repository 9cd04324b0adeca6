"""Readers of the records that a cluster writes: topics, the history of runs, and the changelog of a shard."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence

import msgspec

from stepstream.contract.history import HistoryEntry, RunEnded, RunMoved, decode_history_record
from stepstream.contract.operators.bulk import BulkChanged
from stepstream.contract.topics import CHANGELOG, FUNCTIONS, HISTORY
from stepstream.engine.state.rows import Position
from stepstream.engine.state.tables import position_key
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.reader import Reader
from stepstream.runtime.kafka.shards.shard_log import KafkaLog
from stepstream.runtime.ports import LogError, LogRecord, StoredRow

END_S_MAX = 120.0
_READ_MS = 500
_RECORDS_PER_READ = 5_000
Runs = Mapping[str, Sequence[HistoryEntry]]


class Tail:
    """The committed records of a topic, read incrementally."""

    def __init__(self, cluster: Cluster, topic: str) -> None:
        self._cluster = cluster
        self._topic = topic
        self._places: list[tuple[str, int]] = []
        self._reader: Reader | None = None

    async def read(self) -> list[LogRecord]:
        """Return new records, and wait a moment for the first."""
        if self._reader is None:
            self._places = [(self._topic, at) for at in range((await self._cluster.topics([self._topic]))[self._topic])]
            self._reader = await self._cluster.reader()
            self._reader.assign(self._places)
            self._reader.seek(dict.fromkeys(self._places, 0))
        return await self._reader.read(_RECORDS_PER_READ, _READ_MS)

    async def rest(self) -> list[LogRecord]:
        """Return all records that were not read yet."""
        return [record async for records in self.batches() for record in records]

    async def batches(self) -> AsyncIterator[list[LogRecord]]:
        """Yield all records that were not read yet, some at a time."""
        yield await self.read()
        assert self._reader is not None
        ends = await self._reader.ends(self._places)
        while any([await self._reader.position(at) < ends[at] for at in self._places]):
            yield await self.read()

    async def close(self) -> None:
        """Disconnect."""
        if self._reader is not None:
            await self._reader.close()


async def read_all(cluster: Cluster, topic: str) -> list[LogRecord]:
    """Return all committed records of a topic."""
    tail = Tail(cluster, topic)
    try:
        return await tail.rest()
    finally:
        await tail.close()


class Ledger:
    """The history of each run, in the order of the log, read as it grows; `note` gets each entry with its shard."""

    def __init__(self, cluster: Cluster, note: Callable[[int, HistoryEntry], None] | None = None) -> None:
        self._tail = Tail(cluster, HISTORY)
        self._note = note
        self.runs: dict[str, list[HistoryEntry]] = defaultdict(list)
        self.ended = 0

    @property
    def open(self) -> int:
        """How many runs have started and not ended."""
        return len(self.runs) - self.ended

    async def follow(self) -> None:
        """Read new records without end, also across outages of the broker."""
        while True:
            try:
                self._take(await self._tail.read())
            except LogError:
                await asyncio.sleep(0)

    async def until_ended(self, runs: int, seconds: float = END_S_MAX) -> None:
        """Read until a number of runs has ended."""
        async with asyncio.timeout(seconds):
            while self.ended < runs:
                self._take(await self._tail.read())

    async def catch_up(self) -> None:
        """Read all records that exist now."""
        self._take(await self._tail.rest())

    def _take(self, records: Sequence[LogRecord]) -> None:
        for record in records:
            entry = decode_history_record(record.value)
            if isinstance(entry, BulkChanged):
                continue
            self.runs[entry.run_id].append(entry)
            self.ended += isinstance(entry, RunEnded)
            if self._note:
                self._note(record.partition, entry)

    def stuck(self, before_ms: int) -> list[str]:
        """Return a line with the history of each open run whose last record is older than a time (Unix ms)."""
        return [
            f"{run_id} has not ended: {[(type(entry).__name__, getattr(entry, 'id', '')) for entry in entries]}"
            for run_id, entries in self.runs.items()
            if entries[-1].at < before_ms and not any(isinstance(entry, RunEnded) for entry in entries)
        ]

    def moves(self) -> int:
        """Return how often a worker took over a run from another."""
        return sum(isinstance(entry, RunMoved) for entries in self.runs.values() for entry in entries)

    async def close(self) -> None:
        """Disconnect."""
        await self._tail.close()


async def until_ended(cluster: Cluster, runs: int) -> Runs:
    """Return all histories once a number of runs has ended."""
    ledger = Ledger(cluster)
    try:
        await ledger.until_ended(runs)
        return ledger.runs
    finally:
        await ledger.close()


async def read_histories(cluster: Cluster) -> Runs:
    """Return the history of each run, as far as it is committed now."""
    ledger = Ledger(cluster)
    try:
        await ledger.catch_up()
        return ledger.runs
    finally:
        await ledger.close()


async def until_registered(cluster: Cluster, shards: int, least: int = 2) -> None:
    """Return when every shard knows the functions, at least so many: earlier events start no run."""
    key = position_key(FUNCTIONS, 0).encode()
    known = dict.fromkeys(range(shards), 0)
    functions, changelog = Tail(cluster, FUNCTIONS), Tail(cluster, CHANGELOG)
    try:
        async with asyncio.timeout(END_S_MAX):
            count = 0
            while count < least or min(known.values()) < count:
                count += len(await functions.rest())
                for record in await changelog.read():
                    if record.key == key:
                        known[record.partition] = msgspec.json.decode(record.value, type=Position).offset
    finally:
        await functions.close()
        await changelog.close()


async def rows_of(log: KafkaLog) -> list[StoredRow]:
    """Return all committed rows of a shard's changelog."""
    return [row async for rows, _ in log.changelog(0) for row in rows]
