"""Read models in tests: all of their rows, and their databases closed, since Python 3.13 warns of open ones."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stepstream.runtime.readmodel import sqlite_tables
from stepstream.runtime.readmodel.dialect import SqliteDatabase
from stepstream.runtime.readmodel.index import RunIndex


@pytest.fixture(autouse=True)
def closed_indexes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close at the end of a test every read model that it opened."""
    opened: list[SqliteDatabase] = []
    open_database = sqlite_tables._open

    def note(path: Path | None, origin: str, *, is_synced: bool) -> SqliteDatabase:
        database = open_database(path, origin, is_synced=is_synced)
        opened.append(database)
        return database

    monkeypatch.setattr(sqlite_tables, "_open", note)
    yield
    for database in opened:
        database.close()


TABLES = (
    *("runs", "run_texts", "run_events", "run_names", "run_attributes", "event_waits", "event_cancels", "steps"),
    "approvals",
)
SUMS = ("run_sums", "step_sums", "error_groups", "positions")


def dumped(index: RunIndex) -> dict[str, list[str]]:
    """Return all rows of all tables; sums of nothing do not count."""
    columns = {
        "event_waits": "event_id, name, run_id, step, at",
        "event_cancels": "event_id, name, run_id, at",
        "run_sums": "function, status, runs, total_ms",
    }
    found = {}
    for table in (*TABLES, *SUMS):
        rows = index._db.execute(f"SELECT {columns.get(table, '*')} FROM {table}")  # noqa: S608 - fixed names
        found[table] = sorted(repr(row) for row in rows if table != "run_sums" or row[2])
    return found
