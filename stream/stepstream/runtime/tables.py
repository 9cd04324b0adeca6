"""A shard's tables: opened as those of its changelog, and the engine's view of them, rows decoded from the store."""

import logging
from collections.abc import AsyncIterator, Callable

from stepstream.engine.keys import Key
from stepstream.engine.rows import Row, decode_row
from stepstream.runtime.ports import Store, StoredRow, StoreError

logger = logging.getLogger(__name__)
# So many of the last offsets tell whether tables are those of a changelog: a few transactions of a busy shard.
TAIL_OFFSETS = 200


class StoreView:
    """The rows of a store, decoded."""

    __slots__ = ("_store",)

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, key: Key) -> Row | None:
        """Return the row under `key`, or None."""
        try:
            value = self._store.get(key.encode())
        except Exception as error:
            raise StoreError("the tables cannot be read") from error
        return None if value is None else decode_row(key.table, value)

    def scan(self, table: bytes, part: bytes, limit: int = 0, after: bytes = b"") -> list[tuple[Key, Row]]:
        """Return the rows of a part in the order of their keys, at most `limit` of them (0: all), those after one."""
        prefix = table + part
        cut = len(prefix)
        try:
            found = self._store.scan(prefix, limit, prefix + after if after else b"")
        except Exception as error:
            raise StoreError("the tables cannot be read") from error
        return [(Key(table, part, key[cut:]), decode_row(table, value)) for key, value in found]


async def open_tables(store: Store, tail: Callable[[int], AsyncIterator[list[StoredRow]]]) -> int:
    """Open the tables of a shard; return the position from which its changelog is to be read.

    Tables of another changelog would be mixed with it: those of another cluster or namespace, or of topics that were
    made anew. They are thrown away.
    """
    position = store.open()
    if position and not await _are_of(store, tail(position)):
        logger.warning(
            "the tables at position %d are not those of this changelog (of another cluster or namespace, or of topics "
            "that were deleted?): they are thrown away, and the changelog is read from its beginning",
            position,
        )
        store.discard()
        return 0
    return position


async def _are_of(store: Store, tail: AsyncIterator[list[StoredRow]]) -> bool:
    """Tell whether tables have what the last rows before their position say: any later change would have moved it."""
    latest: dict[bytes, int] = {}
    async for rows in tail:
        # A row may be large, and there may be many.
        latest.update((key, hash(value)) for key, value in rows)
    return all(hash(store.get(key)) == value for key, value in latest.items())
