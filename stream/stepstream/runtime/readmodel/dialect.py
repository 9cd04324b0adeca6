"""What the read model asks of a database; its statements are in the SQL that SQLite and PostgreSQL share."""

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol


class Cursor(Protocol):
    """The result of a statement."""

    @property
    def rowcount(self) -> int:
        """How many rows the statement changed; -1 if it was executed for no values."""

    def fetchone(self) -> Any:
        """Return the next row, None after the last one."""

    def fetchall(self) -> list[Any]:
        """Return all rows that are left."""

    def __iter__(self) -> Iterator[Any]:
        """Return the rows that are left, one by one."""


class Database(Protocol):
    """A connection. Statements mark values with `?`, and must be accepted by SQLite and by PostgreSQL.

    That means: a conflict names its columns, a subquery in FROM has a name, no limit is negative (ALL is one), and a
    statement that needs an order has ORDER BY, unless `keeps_order`.
    """

    # Whether a UNION of ordered reads is read only as far as needed, and a join has the order of its first table.
    keeps_order: bool

    def execute(self, query: str, values: Sequence[Any] = ..., /) -> Cursor:
        """Execute a statement."""

    def executemany(self, query: str, rows: Iterable[Sequence[Any]], /) -> Cursor:
        """Execute a statement for each row of values."""

    def lock(self, name: str) -> None:
        """Wait until no other transaction has locked this name, and lock it until this transaction ends."""


# A LIMIT of all rows.
ALL = 2**62


def lock_sums(db: Database) -> None:
    """Lock the tables that have one row for runs of several shards, before the first change of any of them."""
    db.lock("sums")


class SqliteDatabase(sqlite3.Connection):
    """A connection to SQLite."""

    keeps_order = True

    def lock(self, name: str) -> None:
        """Do nothing: only one process writes to a file."""
