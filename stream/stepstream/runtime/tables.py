"""The engine's view of a shard's tables: rows decoded from the store."""

from stepstream.engine.rows import Key, Row, decode_row
from stepstream.runtime.ports import Store


class StoreView:
    """The rows of a store, decoded."""

    __slots__ = ("_store",)

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, key: Key) -> Row | None:
        """Return the row under `key`, or None."""
        value = self._store.get(key.encode())
        return None if value is None else decode_row(key.table, value)

    def scan(self, table: bytes, part: bytes, limit: int = 0) -> list[tuple[Key, Row]]:
        """Return the rows of a part in the order of their keys, at most `limit` of them (0: all)."""
        prefix = table + part
        cut = len(prefix)
        return [
            (Key(table, part, key[cut:]), decode_row(table, value)) for key, value in self._store.scan(prefix, limit)
        ]
