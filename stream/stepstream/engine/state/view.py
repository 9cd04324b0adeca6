"""Reading the tables: the protocol of a view, and a layer of changes on top of one."""

from collections.abc import ItemsView, Mapping
from typing import Any, Protocol

from stepstream.engine.state.keys import Key
from stepstream.engine.state.rows import Row
from stepstream.engine.state.tables import R, Table


class View(Protocol):
    """The rows of one shard, as they are before a transition."""

    def get(self, key: Key[Any]) -> Row | None:
        """Return the row under `key`, or None."""

    def scan(self, table: bytes, part: bytes, limit: int = 0, after: bytes = b"") -> list[tuple[Key[Any], Row]]:
        """Return the rows of a part in the order of their keys, at most `limit` of them (0: all).

        With `after`, only rows whose place in the part is greater.
        """

    def last(self, table: bytes, part: bytes, limit: int) -> list[tuple[Key[Any], Row]]:
        """Return the last rows of a part in the order of their keys, at most `limit` of them."""


def scan_table(
    view: View, table: Table[R], part: bytes = b"", limit: int = 0, after: bytes = b""
) -> list[tuple[Key[R], R]]:
    """Return the rows of a part of a table, as View.scan does."""
    found: list[tuple[Key[R], Any]] = list(view.scan(table.prefix, part, limit, after))
    return found


_ABSENT: Any = object()


class Layer:
    """Changes on top of a view: rows that were put are seen, rows that were deleted are not."""

    __slots__ = ("_below", "_parts", "_rows")

    def __init__(self, below: View) -> None:
        self._below = below
        self._rows: dict[Key[Any], Row | None] = {}
        # The same rows by part, for scans.
        self._parts: dict[tuple[bytes, bytes], dict[bytes, Row | None]] = {}

    def get(self, key: Key[Any]) -> Any:
        """Return the row under `key`, or None."""
        row = self._rows.get(key, _ABSENT)
        return self._below.get(key) if row is _ABSENT else row

    def scan(self, table: bytes, part: bytes, limit: int = 0, after: bytes = b"") -> list[tuple[Key[Any], Any]]:
        """Return the rows of a part in the order of their keys, as View does."""
        own = self._parts.get((table, part))
        if not own:
            return self._below.scan(table, part, limit, after)
        deleted = sum(row is None and sort > after for sort, row in own.items())
        merged: dict[bytes, Row | None] = {
            key.sort: row for key, row in self._below.scan(table, part, limit + deleted if limit else 0, after)
        }
        merged.update({sort: row for sort, row in own.items() if sort > after} if after else own)
        rows = _sorted_rows(table, part, merged)
        return rows[:limit] if limit else rows

    def last(self, table: bytes, part: bytes, limit: int) -> list[tuple[Key[Any], Any]]:
        """Return the last rows of a part in the order of their keys, as View does."""
        own = self._parts.get((table, part))
        if not own:
            return self._below.last(table, part, limit)
        deleted = sum(row is None for row in own.values())
        merged: dict[bytes, Row | None] = {key.sort: row for key, row in self._below.last(table, part, limit + deleted)}
        merged.update(own)
        return _sorted_rows(table, part, merged)[-limit:]

    def changes(self, table: bytes, part: bytes = b"") -> bool:
        """Return whether a row of a part was put or deleted."""
        return (table, part) in self._parts

    def put(self, key: Key[Any], row: Row | None) -> None:
        """Put a row, or delete it by None."""
        self._rows[key] = row
        at = key[:2]
        if (part := self._parts.get(at)) is None:
            part = self._parts[at] = {}
        part[key[2]] = row

    def items(self) -> ItemsView[Key[Any], Row | None]:
        """Return all changes in the order of their first change, None for a deleted row."""
        return self._rows.items()

    def take(self, above: "Layer") -> None:
        """Adopt the changes of a layer above this one."""
        self._rows.update(above._rows)
        for at, part in above._parts.items():
            if (own := self._parts.get(at)) is None:
                # The layer above is no longer used.
                self._parts[at] = part
            else:
                own.update(part)


def _sorted_rows(table: bytes, part: bytes, rows: Mapping[bytes, Row | None]) -> list[tuple[Key[Any], Row]]:
    return [(Key(table, part, sort), row) for sort, row in sorted(rows.items()) if row is not None]
