"""A shard's tables: checked against their changelog when they are opened, and decoded for the engine."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from stepstream.contract.text.wording import counted
from stepstream.engine.state.keys import Key
from stepstream.engine.state.rows import Position, Row
from stepstream.engine.state.tables import OPEN_COUNTS, POSITIONS, decode_row, open_count_of, position_of
from stepstream.engine.state.view import scan_table
from stepstream.runtime.ports import LogError, Origin, Store, StoreError, TopicPartition
from stepstream.runtime.shard.parts import CACHED_TABLES, Parts

logger = logging.getLogger(__name__)


class StoreView:
    """The rows of a store, decoded. Its reader notes what is written to the store meanwhile."""

    __slots__ = ("_parts", "_store")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._parts = Parts(store)

    def get(self, key: Key[Any]) -> Row | None:
        """Return the row under `key`."""
        try:
            value = self._store.get(key.encode())
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(f"the tables cannot be read: {error}") from error
        return None if value is None else decode_row(key.table, value)

    def scan(self, table: bytes, part: bytes, limit: int = 0, after: bytes = b"") -> list[tuple[Key[Any], Row]]:
        """Return the rows of a part that follow `after`, in the order of their keys, at most `limit` (0: all)."""
        prefix = table + part
        try:
            if table in CACHED_TABLES:
                found = self._parts.scan(table, part, limit, after)
            else:
                rows = self._store.scan(prefix, limit, prefix + after if after else b"")
                found = [(key[len(prefix) :], value) for key, value in rows]
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(f"the tables cannot be read: {error}") from error
        return [(Key(table, part, sort), decode_row(table, value)) for sort, value in found]

    def last(self, table: bytes, part: bytes, limit: int) -> list[tuple[Key[Any], Row]]:
        """Return the last rows of a part, in the order of their keys, at most `limit`."""
        try:
            found = self._store.last(table + part, limit)
        except StoreError:
            raise
        except Exception as error:
            raise StoreError(f"the tables cannot be read: {error}") from error
        cut = len(table) + len(part)
        return [(Key(table, part, key[cut:]), decode_row(table, value)) for key, value in found]

    def note(self, rows: Mapping[Key[Any], bytes | None]) -> None:
        """Note rows that were written to the store (None: deleted)."""
        self._parts.note(rows.items())


class OpenedTables(NamedTuple):
    """The changelog position from which to recover.

    `left` has the positions of inputs in tables of another changelog, which were set aside.
    """

    position: int
    left: Mapping[TopicPartition, Position]


async def open_tables(store: Store, origin: Callable[[], Awaitable[Origin]]) -> OpenedTables:
    """Open the tables of a shard, which must be those of its changelog.

    Tables without the row that identifies the changelog belong to another one: of another cluster or namespace, or of a
    topic that was deleted and created again. They are renamed, since they may be the only copy of their rows. Raise
    LogError if the changelog ends before their position: it has lost rows.
    """
    position = store.open()
    changelog = await origin()
    if position and changelog.key and store.get(changelog.key) is None:
        return _set_aside(store, position)
    if position > changelog.end:
        raise LogError(
            f"the tables are at position {position} of a changelog that ends at {changelog.end}: a broker lost records "
            "that it had acknowledged (by a power failure, or an unclean leader election). Restore its data, or remove "
            "the tables of the shard: they are rebuilt, and what the changelog lost is processed again"
        )
    return OpenedTables(position, {})


def _set_aside(store: Store, position: int) -> OpenedTables:
    view = StoreView(store)
    counts = {open_count_of(key): row.count for key, row in scan_table(view, OPEN_COUNTS)}
    left = {position_of(key): row for key, row in scan_table(view, POSITIONS)}
    open_runs = sum(count for (name, _), count in counts.items() if name == "open_runs")
    aside = store.set_aside()
    logger.error(
        "the tables at position %d, with %s, do not belong to their changelog, which was deleted and created "
        "again, or is of another cluster or namespace: they are %s, and new ones are read from the changelog",
        position,
        counted(open_runs, "open run"),
        f"renamed to {aside}" if aside else "dropped",
    )
    return OpenedTables(0, left)
