"""A shard's tables: checked against their changelog when they are opened, and decoded for the engine."""

import logging
from collections.abc import Awaitable, Callable, Sequence
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
        """Return the row under `key`."""
        try:
            value = self._store.get(key.encode())
        except Exception as error:
            raise StoreError("the tables cannot be read") from error
        return None if value is None else decode_row(key.table, value)

    def scan(self, table: bytes, part: bytes, limit: int = 0, after: bytes = b"") -> list[tuple[Key[Any], Row]]:
        """Return the rows of a part that follow `after`, in the order of their keys, at most `limit` (0: all)."""
        prefix = table + part
        try:
            found = self._store.scan(prefix, limit, prefix + after if after else b"")
        except Exception as error:
            raise StoreError("the tables cannot be read") from error
        return _decode(table, part, found)

    def last(self, table: bytes, part: bytes, limit: int) -> list[tuple[Key[Any], Row]]:
        """Return the last rows of a part, in the order of their keys, at most `limit`."""
        try:
            found = self._store.last(table + part, limit)
        except Exception as error:
            raise StoreError("the tables cannot be read") from error
        return _decode(table, part, found)


def _decode(table: bytes, part: bytes, found: Sequence[tuple[bytes, bytes]]) -> list[tuple[Key[Any], Row]]:
    cut = len(table) + len(part)
    return [(Key(table, part, key[cut:]), decode_row(table, value)) for key, value in found]


async def open_tables(store: Store, origin: Callable[[int], Awaitable[bytes]]) -> int:
    """Open the tables of a shard; return the changelog position from which to recover.

    `origin` returns the key of the first row of the changelog, which is unique to it, or b"" if that is unknown; it
    raises LogError if the changelog ends before a position. Tables without that row belong to another changelog: to
    another cluster or namespace, or to topics that were deleted and created again. They are deleted.
    """
    position = store.open()
    key = await origin(position)
    if not position or not key or store.get(key) is not None:
        return position
    logger.warning(
        "tables at position %d belong to another changelog (of another cluster or namespace, or of topics that were "
        "deleted): they are deleted, and the changelog is read from its beginning",
        position,
    )
    store.discard()
    return 0
