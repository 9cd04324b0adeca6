"""Closes the databases of read models that a test opened: Python 3.13 warns of each one that is left open."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from stepstream.runtime.readmodel import sqlite_tables
from stepstream.runtime.readmodel.dialect import SqliteDatabase


@pytest.fixture(autouse=True)
def closed_indexes(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close at the end of a test every read model that it opened."""
    opened: list[SqliteDatabase] = []
    open_database = sqlite_tables._open

    def note(path: Path | None, origin: str) -> SqliteDatabase:
        database = open_database(path, origin)
        opened.append(database)
        return database

    monkeypatch.setattr(sqlite_tables, "_open", note)
    yield
    for database in opened:
        database.close()
