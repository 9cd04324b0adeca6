"""A warm copy of the tables of a shard that another process owns; it follows the changelog."""

import functools
from collections.abc import Callable

from stepstream.contract.limits import HOUR_MS
from stepstream.contract.text.wording import counted
from stepstream.contract.topics import CHANGELOG
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.reader import Reader
from stepstream.runtime.kafka.shards.shard_log import rows_of
from stepstream.runtime.kafka.topics.origin import origin_of
from stepstream.runtime.ports import Clock, LogError, LogRecord, Store
from stepstream.runtime.shard.tables import open_tables

_ROWS_PER_READ = 5_000
_READ_MS = 1_000
# The tables have the time at which they were last current. Without a refresh, the copy of a shard without writes would
# look abandoned.
_REFRESH_MS = 600_000
# A new copy is warm when it reaches an end of the changelog that was read at most this long ago, or the fifth one.
_WARM_MS = 1_000
_ENDS_MAX = 5


class Standby:
    """Applies the changelog of one shard to its tables, so that a takeover reads only the rest.

    A copy that was not at the end of the changelog for longer than `stale_ms` is discarded: by then the changelog may
    have dropped deletions that it has not seen.
    """

    def __init__(self, cluster: Cluster, store: Store, clock: Clock, shard: int, shards: int, stale_ms: int) -> None:
        self._cluster = cluster
        self._store = store
        self._clock = clock
        self._shard = shard
        self._shards = shards
        self._stale_ms = stale_ms
        self._at = (CHANGELOG, shard)
        # When the copy was last current; and an end offset to reach, with the time at which it was the end.
        self._current_at = 0
        self._goal: tuple[int, int] | None = None
        self._ends = 0
        self.position: int | None = None
        self.warm = False

    @property
    def unready(self) -> str:
        """Why its shard does not move here yet, with the number of rows that are left; empty if the copy is warm."""
        left = max(self._goal[0] - (self.position or 0), 0) if self._goal else 0
        copied = "is copied first" + (f", {counted(left, 'row')} left" if left else "")
        return "" if self.warm else copied

    async def serve(self, on_warm: Callable[[], None] | None = None) -> None:
        """Follow the changelog until cancelled; then close the tables and release their lock.

        `on_warm` is called once a takeover of the copy would read few rows.
        """
        try:
            reader = await self._cluster.reader(known=True)
            try:
                origin = functools.partial(origin_of, self._cluster, self._shard, self._shards)
                position, _ = await open_tables(self._store, origin)
                reader.assign([self._at])
                reader.seek({self._at: position})
                self._current_at = self._clock.now_ms()
                self._goal = (await reader.ends([self._at]))[self._at], self._current_at
                while True:
                    self.position = position
                    records = await reader.read(_ROWS_PER_READ, _READ_MS)
                    position = max(await reader.position(self._at), position)
                    await self._apply(reader, records, position)
                    if not self.warm and self._goal is None:
                        await self._warm_up(reader, on_warm)
            finally:
                await reader.close()
        finally:
            self.position, self.warm = None, False
            self._store.close()

    async def _apply(self, reader: Reader, records: list[LogRecord], position: int) -> None:
        now = self._clock.now_ms()
        if records and now - self._current_at > self._stale_ms:
            self._store.discard()
            hours = (now - self._current_at) / HOUR_MS
            raise LogError(
                f"the warm copy of shard {self._shard} was {hours:.0f} hours behind its changelog, and was discarded"
            )
        if now - self._current_at > _REFRESH_MS and self._goal is None:
            # A process without a connection reads no records either; only a broker knows that there are none.
            self._goal = (await reader.ends([self._at]))[self._at], now
        is_current = self._goal is not None and position >= self._goal[0]
        if self._goal is not None and is_current:
            self._current_at, self._goal = self._goal[1], None
        if records or is_current:
            self._store.write(rows_of(records), position)

    async def _warm_up(self, reader: Reader, on_warm: Callable[[], None] | None) -> None:
        """Call the copy warm, or let it read on to the end that the changelog has now.

        A shard may write faster than this process reads; the copy of such a shard is not better later.
        """
        now = self._clock.now_ms()
        self._ends += 1
        self.warm = now - self._current_at <= _WARM_MS or self._ends >= _ENDS_MAX
        if self.warm and on_warm:
            on_warm()
        elif not self.warm:
            self._goal = (await reader.ends([self._at]))[self._at], now
