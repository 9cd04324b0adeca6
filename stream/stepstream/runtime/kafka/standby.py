"""A warm copy of a shard's tables in a process that does not own it: it follows the changelog."""

import functools

from stepstream.contract.limits import HOUR_MS
from stepstream.contract.topics import CHANGELOG
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.origin import origin_of
from stepstream.runtime.kafka.reader import Reader
from stepstream.runtime.ports import Clock, LogError, LogRecord, Store
from stepstream.runtime.shard.tables import open_tables

_ROWS_PER_READ = 5_000
_READ_MS = 1_000
# The tables say when they were last known to be right; a copy of a quiet shard must not look like one that was left.
_REFRESH_MS = 600_000


class Standby:
    """Keeps the tables of one shard as its changelog has them, so that taking it over reads only what is left.

    A copy that has not been at the end of the changelog for longer than `stale_ms` begins anew: by then deletions that
    it has not seen may be forgotten.
    """

    def __init__(self, cluster: Cluster, store: Store, clock: Clock, shard: int, stale_ms: int) -> None:
        self._cluster = cluster
        self._store = store
        self._clock = clock
        self._shard = shard
        self._stale_ms = stale_ms
        self._at = (CHANGELOG, shard)
        # When the copy last had all that there was; and an end that it is to reach, with when that was the end.
        self._known_at = 0
        self._goal: tuple[int, int] | None = None
        self.position: int | None = None

    async def serve(self) -> None:
        """Follow the changelog until cancelled; then the tables are closed, and their lock is free."""
        try:
            reader = await self._cluster.reader(known=True)
            try:
                position = await open_tables(self._store, functools.partial(origin_of, self._cluster, self._shard))
                reader.assign([self._at])
                reader.seek({self._at: position})
                self._known_at, self._goal = self._clock.now_ms(), None
                while True:
                    self.position = position
                    records = await reader.read(_ROWS_PER_READ, _READ_MS)
                    position = max(await reader.position(self._at), position)
                    await self._take(reader, records, position)
            finally:
                await reader.close()
        finally:
            self.position = None
            self._store.close()

    async def _take(self, reader: Reader, records: list[LogRecord], position: int) -> None:
        now = self._clock.now_ms()
        if records and now - self._known_at > self._stale_ms:
            self._store.discard()
            hours = (now - self._known_at) / HOUR_MS
            raise LogError(f"the copy was not at the end of its changelog for {hours:.0f} hours, and begins anew")
        if now - self._known_at > _REFRESH_MS and self._goal is None:
            # Whoever is cut off from the brokers reads nothing, too: only they say that there is nothing.
            self._goal = (await reader.ends([self._at]))[self._at], now
        is_known = self._goal is not None and position >= self._goal[0]
        if self._goal is not None and is_known:
            self._known_at, self._goal = self._goal[1], None
        if records or is_known:
            self._store.write([(record.key, record.value or None) for record in records], position)
