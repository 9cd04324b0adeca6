"""The engine's view of a shard's tables: rows decoded from the store."""

from stepstream.engine.keys import Key
from stepstream.engine.rows import Row, decode_row
from stepstream.runtime.ports import Store, StoreError


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
