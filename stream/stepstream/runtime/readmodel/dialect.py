"""What the read model asks of a database; its statements are in the SQL that SQLite and PostgreSQL share."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Generic, Protocol, TypeVar


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

    def stream(self, query: str, values: Sequence[Any] = ..., /) -> Iterable[Any]:
        """Return the rows of a statement, which has so many or so large ones that few are in memory at once."""

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
    stream = sqlite3.Connection.execute

    def lock(self, name: str) -> None:
        """Do nothing: only one process writes to a file."""


T = TypeVar("T")


class Tables(Protocol):
    """Where the tables of a read model are, how they are reached, and what their failures mean.

    All methods raise StoreError while the tables cannot be used.
    """

    # Whether other processes write to the tables too, and each statement waits for a network.
    shared: bool

    @property
    def db(self) -> Database:
        """The connection that writes; it is used by one thread at a time."""

    def checked(self) -> AbstractContextManager[None]:
        """Raise StoreError, for what the block raises, if the tables cannot be used."""

    def transaction(self) -> AbstractContextManager[None]:
        """Make the changes of the block, all or none of them; otherwise as `checked`."""

    def restart(self, topic: str) -> None:
        """Note that a topic is read from its stored positions from now on."""

    def must_restart(self, topic: str) -> bool:
        """Return whether the tables were replaced since `restart`, so that the topic must be read again."""

    def publish(self, run_ids: Collection[str]) -> None:
        """Let `changed` of all processes return these runs once the transaction is committed."""

    def changed(self) -> AsyncIterator[list[str] | None]:
        """Yield the runs that any process changed; None if they are not known."""

    async def call(self, work: Callable[[], T]) -> T:
        """Do work that uses `db`; without holding up the event loop if the tables are shared."""

    async def ask(self, query: Callable[[Database], T]) -> T:
        """Return the answer of a query, without holding up the event loop; raise QueryTooSlow after its time."""

    def used_bytes(self) -> int:
        """Return the size of the tables, 0 if it is not limited."""

    async def server_bytes(self) -> int | None:
        """Return the size of the tables and their indexes on a server; None if they are in a file of this process."""

    def shrink(self) -> int:
        """Return some free space to the disk; return how many pages, 0 if there is little."""

    def close(self) -> None:
        """Close all connections."""


class Closable(Protocol):
    """A connection of a thread."""

    def close(self) -> None:
        """Close it."""


C = TypeVar("C", bound=Closable)


class ReadingThreads(Generic[C]):
    """Threads that answer queries, each with its own connection, which it opens when it needs one."""

    def __init__(self, open: Callable[[], C], threads: int) -> None:
        self._open = open
        self._most = threads
        self._threads: ThreadPoolExecutor | None = None
        self._local = threading.local()
        self.opened: list[C] = []

    async def ask(self, query: Callable[[C], T]) -> T:
        """Return the answer of a query in a thread."""
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._most, thread_name_prefix="queries")
        return await asyncio.get_running_loop().run_in_executor(self._threads, lambda: query(self.connection()))

    def connection(self) -> C:
        """Return the connection of the calling thread."""
        opened, db = self.opened, getattr(self._local, "db", None)
        if db is None or db not in opened:
            self._local.db = db = self._open()
            opened.append(db)
        found: C = db
        return found

    def drop(self, db: C) -> None:
        """Close a connection; its thread opens another one."""
        if db in self.opened:
            self.opened.remove(db)
        db.close()

    def close(self) -> None:
        """Close all connections, once running queries have ended; the next query opens another one."""
        opened, self.opened = self.opened, []
        if self._threads is not None:
            self._threads.shutdown()
            self._threads = None
        for db in opened:
            db.close()
