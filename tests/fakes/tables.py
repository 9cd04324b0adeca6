"""The tables of one shard in memory, as the engine reads and changes them."""

from collections import Counter
from typing import Any

from stepstream.engine.state.changes import Changes, Delete, Put
from stepstream.engine.state.keys import Key
from stepstream.engine.state.rows import Row
from stepstream.engine.state.tables import decode_row, encode_row


class Tables:
    """The rows of one shard, encoded, so that every read decodes them."""

    def __init__(self) -> None:
        self.rows: dict[Key[Any], bytes] = {}

    def get(self, key: Key[Any]) -> Row | None:
        """Return a row."""
        value = self.rows.get(key)
        return None if value is None else decode_row(key.table, value)

    def scan(self, table: bytes, part: bytes, limit: int = 0, after: bytes = b"") -> list[tuple[Key[Any], Row]]:
        """Return the rows of a part, or of all parts that start with it, as a store does."""
        places = ((key.part + key.sort, value) for key, value in self.rows.items() if key.table == table)
        within = sorted((place[len(part) :], value) for place, value in places if place.startswith(part))
        found = [
            (Key[Any](table, part, sort), decode_row(table, value))
            for sort, value in within
            if not after or sort > after
        ]
        return found[:limit] if limit else found

    def last(self, table: bytes, part: bytes, limit: int) -> list[tuple[Key[Any], Row]]:
        """Return the last rows of a part."""
        return self.scan(table, part)[-limit:]

    def apply(self, changes: Changes) -> None:
        """Apply the changes of a transition to the rows."""
        for change in changes.changes:
            if isinstance(change, Put):
                self.rows[change.key] = encode_row(change.row)
            elif isinstance(change, Delete):
                self.rows.pop(change.key, None)


class CountingTables(Tables):
    """Tables that count the rows that they return: `found` by key, and `scanned` by table."""

    def __init__(self) -> None:
        super().__init__()
        self.found = 0
        self.scanned: Counter[bytes] = Counter()

    def get(self, key: Key[Any]) -> Row | None:
        """Return a row."""
        self.found += 1
        return super().get(key)

    def scan(self, table: bytes, part: bytes, limit: int = 0, after: bytes = b"") -> list[tuple[Key[Any], Row]]:
        """Return the rows of a part."""
        found = super().scan(table, part, limit, after)
        self.scanned[table] += len(found)
        return found

    def start_over(self) -> None:
        """Count from 0 again."""
        self.found = 0
        self.scanned.clear()
