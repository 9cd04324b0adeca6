"""Bulk operations in the read model: the newest state of each."""

from collections.abc import Iterable

import msgspec

from stepstream.contract.limits import BULK_LISTED_MAX
from stepstream.contract.operators.bulk import BulkChanged
from stepstream.runtime.readmodel.dialect import Database
from stepstream.runtime.readmodel.tables.schema import text_of

_shown_of = msgspec.json.Decoder(BulkChanged).decode


def write_bulks(db: Database, changed: Iterable[BulkChanged]) -> None:
    """Write the states of operations, unless the tables have newer ones; the oldest of very many are dropped."""
    rows = [(each.operation, each.seq, each.started_at, text_of(each)) for each in changed]
    if not rows:
        return
    db.executemany(
        "INSERT INTO bulk_operations VALUES (?, ?, ?, ?) ON CONFLICT (operation) DO UPDATE SET "
        "seq = excluded.seq, started_at = excluded.started_at, shown = excluded.shown "
        "WHERE bulk_operations.seq < excluded.seq OR bulk_operations.started_at < excluded.started_at",
        rows,
    )
    newest = "SELECT operation FROM bulk_operations ORDER BY started_at DESC, operation LIMIT ?"
    db.execute(f"DELETE FROM bulk_operations WHERE operation NOT IN ({newest})", (BULK_LISTED_MAX,))


def find_bulk(db: Database, operation: str) -> BulkChanged | None:
    """Return a bulk operation, None if there is none with this id."""
    row = db.execute("SELECT shown FROM bulk_operations WHERE operation = ?", (operation,)).fetchone()
    return _shown_of(row[0]) if row else None


def list_bulks(db: Database, limit: int) -> list[BulkChanged]:
    """Return bulk operations, the newest first."""
    query = "SELECT shown FROM bulk_operations ORDER BY started_at DESC, operation LIMIT ?"
    return [_shown_of(shown) for (shown,) in db.execute(query, (limit,))]
