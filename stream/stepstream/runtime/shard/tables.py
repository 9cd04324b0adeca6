"""A shard's tables: opened as those of its changelog, and the engine's view of them, rows decoded from the store."""

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from stepstream.engine.state.keys import Key
from stepstream.engine.state.rows import Row
from stepstream.engine.state.tables import decode_row
from stepstream.runtime.ports import Store, StoreError

logger = logging.getLogger(__name__)


class StoreView:
    """The rows of a store, decoded."""

    __slots__ = ("_store",)

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, key: Key[Any]) -> Row | None:
        """Return the row under `key`, or None."""
        try:
            value = self._store.get(key.encode())
        except Exception as error:
            raise StoreError("the tables cannot be read") from error
        return None if value is None else decode_row(key.table, value)

    def scan(self, table: bytes, part: bytes, limit: int = 0, after: bytes = b"") -> list[tuple[Key[Any], Row]]:
        """Return the rows of a part in the order of their keys, at most `limit` of them (0: all), those after one."""
        prefix = table + part
        cut = len(prefix)
        try:
            found = self._store.scan(prefix, limit, prefix + after if after else b"")
        except Exception as error:
            raise StoreError("the tables cannot be read") from error
        return [(Key(table, part, key[cut:]), decode_row(table, value)) for key, value in found]


async def open_tables(store: Store, origin: Callable[[int], Awaitable[bytes]]) -> int:
    """Open the tables of a shard; return the position from which its changelog is to be read.

    `origin` returns the key of the changelog's first row, which is in no other, or nothing where that is not known, and
    raises LogError when the changelog ends before a position. Tables without that row are those of another changelog:
    of another cluster or namespace, or of topics that were made anew. They would be mixed with it, and are thrown away.
    """
    position = store.open()
    key = await origin(position)
    if not position or not key or store.get(key) is not None:
        return position
    logger.warning(
        "the tables at position %d are not those of this changelog (of another cluster or namespace, or of topics "
        "that were deleted?): they are thrown away, and the changelog is read from its beginning",
        position,
    )
    store.discard()
    return 0
