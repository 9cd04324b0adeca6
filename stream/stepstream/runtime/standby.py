"""A warm copy of a shard's tables in a process that does not own it: it follows the changelog."""

import functools
import time

from stepstream.contract.topics import CHANGELOG
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.origin import origin_of
from stepstream.runtime.ports import Store
from stepstream.runtime.tables import open_tables

_ROWS_PER_READ = 5_000
_READ_MS = 1_000
# The tables say when they were last known to be right; a copy of a quiet shard must not look like one that was left.
_REFRESH_S = 600.0


class Standby:
    """Keeps the tables of one shard as its changelog has them, so that taking it over reads only what is left."""

    def __init__(self, cluster: Cluster, store: Store, shard: int) -> None:
        self._cluster = cluster
        self._store = store
        self._shard = shard
        self.position: int | None = None

    async def serve(self) -> None:
        """Follow the changelog until cancelled; then the tables are closed, and their lock is free."""
        at = (CHANGELOG, self._shard)
        try:
            reader = await self._cluster.reader(known=True)
            try:
                position = await open_tables(self._store, functools.partial(origin_of, self._cluster, self._shard))
                reader.assign([at])
                reader.seek({at: position})
                written_at = time.monotonic()
                while True:
                    self.position = position
                    records = await reader.read(_ROWS_PER_READ, _READ_MS)
                    position = max(await reader.position(at), position)
                    if records or time.monotonic() - written_at > _REFRESH_S:
                        self._store.write([(record.key, record.value or None) for record in records], position)
                        written_at = time.monotonic()
            finally:
                await reader.close()
        finally:
            self.position = None
            self._store.close()
