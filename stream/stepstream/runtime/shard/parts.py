"""A cache of the small parts of tables whose rows come and go quickly."""

from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from stepstream.contract.limits import CACHED_PART_BYTES_MAX, CACHED_PART_ROWS_MAX, CACHED_PARTS_MAX
from stepstream.engine.state.keys import Key
from stepstream.engine.state.tables import LOOK_BACKS, QUEUED_EVENTS, SCOPE_PAUSES, WAITS
from stepstream.runtime.ports import Store

# Their scans are by the whole part of a key, never by less.
CACHED_TABLES = frozenset(table.prefix for table in (WAITS, QUEUED_EVENTS, LOOK_BACKS, SCOPE_PAUSES))
# A part is read in portions of so many rows.
_ROWS_READ = (16, CACHED_PART_ROWS_MAX - 16 + 1)


class _Part:
    """All rows of a part in order; or None for one that is too large, with the deletions until it is read again."""

    __slots__ = ("bytes", "deletions_left", "rows", "sorts")

    def __init__(self, rows: dict[bytes, bytes] | None) -> None:
        self.rows = rows
        self.sorts = list(rows or ())
        self.bytes = sum(len(sort) + len(value) for sort, value in (rows or {}).items())
        self.deletions_left = CACHED_PART_ROWS_MAX

    def put(self, sort: bytes, value: bytes | None) -> bool:
        """Note a row (None: deleted); return whether the part may stay in the cache."""
        if self.rows is None:
            self.deletions_left -= value is None
            return self.deletions_left > 0
        before = self.rows.pop(sort, None)
        if before is not None:
            self.bytes -= len(sort) + len(before)
        if value is not None:
            self.rows[sort] = value
            self.bytes += len(sort) + len(value)
            if before is None:
                insort(self.sorts, sort)
        elif before is not None:
            del self.sorts[bisect_right(self.sorts, sort) - 1]
        return len(self.sorts) <= CACHED_PART_ROWS_MAX and self.bytes <= CACHED_PART_BYTES_MAX


class Parts:
    """The parts of a store's tables that were scanned last.

    RocksDB reads through every deleted row of a range until it has rewritten its files: a bucket through which 20,000
    waits have passed takes 1.7 ms to read, even if it is empty. Its part in the cache has only live rows.
    """

    __slots__ = ("_parts", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._parts: OrderedDict[tuple[bytes, bytes], _Part] = OrderedDict()

    def scan(self, table: bytes, part: bytes, limit: int, after: bytes) -> list[tuple[bytes, bytes]]:
        """Return the places and values of the rows of a part after a place, in order, at most `limit` (0: all)."""
        cached = self._parts.get((table, part))
        if cached is None and not after:
            cached = self._read(table, part)
        if cached is not None:
            self._parts.move_to_end((table, part))
        if cached is None or cached.rows is None:
            return self._scan(table, part, limit, after)
        rows = cached.rows
        first = bisect_right(cached.sorts, after) if after else 0
        return [(sort, rows[sort]) for sort in cached.sorts[first : first + limit if limit else None]]

    def _read(self, table: bytes, part: bytes) -> _Part:
        read = _Part(self._small(table, part))
        self._parts[table, part] = read
        if len(self._parts) > CACHED_PARTS_MAX:
            self._parts.popitem(last=False)
        return read

    def _small(self, table: bytes, part: bytes) -> dict[bytes, bytes] | None:
        """Return all rows of a part, read in portions because they may be large; None if the part is too large."""
        rows: list[tuple[bytes, bytes]] = []
        for count in _ROWS_READ:
            portion = self._scan(table, part, count, rows[-1][0] if rows else b"")
            rows += portion
            if sum(len(sort) + len(value) for sort, value in rows) > CACHED_PART_BYTES_MAX:
                break
            if len(portion) < count:
                return dict(rows)
        return None

    def _scan(self, table: bytes, part: bytes, limit: int, after: bytes) -> list[tuple[bytes, bytes]]:
        prefix = table + part
        found = self._store.scan(prefix, limit, prefix + after if after else b"")
        return [(key[len(prefix) :], value) for key, value in found]

    def note(self, rows: Iterable[tuple[Key[Any], bytes | None]]) -> None:
        """Note rows that were written to the store (None: deleted)."""
        for key, value in rows:
            if key.table not in CACHED_TABLES:
                continue
            cached = self._parts.get(key[:2])
            if cached is not None and not cached.put(key.sort, value):
                del self._parts[key[:2]]
