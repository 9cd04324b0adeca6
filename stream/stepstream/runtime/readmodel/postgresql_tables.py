"""The tables of a read model in PostgreSQL, which any number of engines share; the one importer of psycopg."""

import asyncio
import functools
import os
import socket
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.numeric import IntLoader

from stepstream.runtime.ports import StoreError
from stepstream.runtime.readmodel import queries
from stepstream.runtime.readmodel.dialect import Cursor, Database, ReadingThreads
from stepstream.runtime.readmodel.postgresql_sql import CREATED, DROPPED, in_portions, storable, translated
from stepstream.runtime.readmodel.tables.schema import VERSION
from stepstream.runtime.storage.failures import one_line

T = TypeVar("T")
# The schema of the database that has the tables, the notification of changed runs, and the name of the sessions.
NAME = "stepstream"
_THREADS = 4
_CONNECT_S = 5
# The server ends long statements, and transactions of frozen processes; a process abandons a connection after
# _WRITE_S_MAX.
_STATEMENT_S_MAX, _IDLE_S_MAX, _WRITE_S_MAX = 20, 10, 30.0
# A notice has less than 8,000 bytes. An id of 26 characters is longer only in a record of another producer.
_IDS_PER_NOTICE, _ID_BYTES_MAX = 200, 38
_STREAMED_ROWS = 100
# Connections to a host that no longer answers end after about 11 s. The URL may set each of these otherwise.
_DEFAULTS = {
    "application_name": NAME,
    "connect_timeout": _CONNECT_S,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}


@contextmanager
def _unstorable() -> Iterator[None]:
    """Raise OverflowError for a value that no column can store, as sqlite3 does."""
    try:
        yield
    except (psycopg.DataError, psycopg.errors.ProgramLimitExceeded) as error:
        raise OverflowError(_reason(error)) from error


class PostgresqlDatabase:
    """A connection to PostgreSQL."""

    keeps_order = False

    def __init__(self, connection: psycopg.Connection) -> None:
        self.connection = connection

    def execute(self, query: str, values: Sequence[Any] = (), /) -> Cursor:
        """Execute a statement."""
        with _unstorable():
            return self.connection.execute(translated(query), storable(values))

    def executemany(self, query: str, rows: Iterable[Sequence[Any]], /) -> Cursor:
        """Execute a statement for each row of values."""
        cursor = self.connection.cursor()
        with _unstorable():
            for statement, values in in_portions(query, [storable(row) for row in rows]):
                cursor.executemany(translated(statement), values)
        return cursor

    def stream(self, query: str, values: Sequence[Any] = (), /) -> Iterator[Any]:
        """Yield the rows of a statement, of which some at a time are in memory."""
        with self.connection.cursor(name="stream") as cursor:
            cursor.itersize = _STREAMED_ROWS
            cursor.execute(translated(query), storable(values))
            yield from cursor

    def lock(self, name: str) -> None:
        """Wait until no other transaction has locked this name, and lock it until this transaction ends."""
        self.execute("SELECT pg_advisory_xact_lock(hashtextextended(?, 0))", (f"{NAME} {name}",))

    def read(self, query: Callable[[Database], T]) -> T:
        """Return the answer of a query; raise QueryTooSlow after its time."""
        try:
            with self.connection.transaction():
                return query(self)
        except psycopg.errors.QueryCanceled:
            raise queries.QueryTooSlow from None

    def abandon(self) -> None:
        """End the connection, also while a thread waits for its answer: the thread gets an error."""
        with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(self.connection.fileno())) as its:
            its.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()


class PostgresqlTables:
    """The tables in the database of `url`; `origin` identifies the topics whose runs they have.

    Nothing is connected before the tables are used, and a lost connection is opened again when they are used next.
    """

    shared = True

    def __init__(self, url: str, origin: str = "") -> None:
        self._options = options_of(url)
        self._origin = origin
        self._what = f"the read model at {place_of(self._options)}"
        self._db: PostgresqlDatabase | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="read-model")
        self._readers = ReadingThreads(lambda: self._open(queries.QUERY_S_MAX, None), _THREADS)

    @property
    def db(self) -> PostgresqlDatabase:
        """The connection that writes."""
        if self._db is None or self._db.connection.closed:
            self._db = self._open(_STATEMENT_S_MAX, 5)
        return self._db

    def _open(self, statement_s: float, prepare_threshold: int | None) -> PostgresqlDatabase:
        """Connect, and check whose tables these are."""
        with self.checked():
            connection = psycopg.connect(**self._options, autocommit=True, prepare_threshold=prepare_threshold)
            db = PostgresqlDatabase(connection)
            try:
                _prepare(connection, statement_s)
                self._check(db)
            except BaseException:
                db.close()
                raise
        return db

    def _check(self, db: PostgresqlDatabase) -> None:
        if (version := version_of(db.connection)) != VERSION:
            raise StoreError(f"{self._what} {unfit(version)}")
        if not self._origin:
            return
        with db.connection.transaction():
            db.lock("origin")
            known = [value for (value,) in db.execute("SELECT value FROM origin")]
            if not known:
                db.execute("INSERT INTO origin VALUES (?)", (self._origin,))
            elif known != [self._origin]:
                reason = "has the runs of other topics: of another cluster or namespace, or deleted and created again"
                remedy = "use another database, or empty it by `stepstream readmodel create --replace`"
                raise StoreError(f"{self._what} {reason}; {remedy}")

    @contextmanager
    def checked(self) -> Iterator[None]:
        """Raise StoreError, for what the block raises, if the tables cannot be used."""
        try:
            yield
        except psycopg.Error as error:
            raise StoreError(f"{self._what} cannot be used ({_reason(error)})") from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Make the changes of the block, all or none of them; otherwise as `checked`."""
        with self.checked(), self.db.connection.transaction():
            yield

    def restart(self, topic: str) -> None:
        """Do nothing: the positions in the tables say whether they were replaced."""

    def must_restart(self, topic: str) -> bool:  # noqa: ARG002 - the port names it
        """Return False: the positions in the tables say whether they were replaced."""
        return False

    def publish(self, run_ids: Collection[str]) -> None:
        """Let `changed` of all processes return these runs once the transaction is committed."""
        ids = sorted(each for each in run_ids if len(each.encode()) <= _ID_BYTES_MAX)
        notices = [(NAME, " ".join(ids[at : at + _IDS_PER_NOTICE])) for at in range(0, len(ids), _IDS_PER_NOTICE)]
        if notices:
            self.db.executemany("SELECT pg_notify(?, ?)", notices)

    async def changed(self) -> AsyncIterator[list[str] | None]:
        """Yield the runs that any process changed; None first, because what changed before is not known."""
        with self.checked():
            async with await psycopg.AsyncConnection.connect(**self._options, autocommit=True) as connection:
                await connection.execute(f"LISTEN {NAME}")
                yield None
                async for notice in connection.notifies():
                    yield notice.payload.split()

    async def call(self, work: Callable[[], T]) -> T:
        """Do work that uses `db`, in its thread, one after the other."""
        try:
            async with asyncio.timeout(_WRITE_S_MAX):
                return await asyncio.get_running_loop().run_in_executor(self._writer, work)
        except TimeoutError:
            if self._db is not None:
                self._db.abandon()
            raise StoreError(f"{self._what} does not answer") from None

    async def ask(self, query: Callable[[Database], T]) -> T:
        """Return the answer of a query, from one of several threads; raise QueryTooSlow after its time."""
        try:
            async with asyncio.timeout(queries.QUERY_S_MAX + _CONNECT_S):
                return await self._readers.ask(functools.partial(self._answer, query))
        except TimeoutError:
            for db in self._readers.opened:
                db.abandon()
            raise StoreError(f"{self._what} does not answer") from None

    def _answer(self, query: Callable[[Database], T], db: PostgresqlDatabase) -> T:
        with self.checked():
            try:
                return db.read(query)
            except psycopg.OperationalError:
                if not db.connection.closed:
                    raise
            # The server was restarted since the last query, for example.
            self._readers.drop(db)
            return self._readers.connection().read(query)

    def used_bytes(self) -> int:
        """Return 0: the server uses the space of deleted rows again, and its files do not become smaller."""
        return 0

    async def server_bytes(self) -> int:
        """Return the size of the tables with their indexes, and with the space of deleted rows."""
        return await self.ask(_size)

    def shrink(self) -> int:
        """Return 0: the server does it by itself."""
        return 0

    def close(self) -> None:
        """Close all connections; a statement that is executed is abandoned."""
        opened = [*self._readers.opened, *([self._db] if self._db else [])]
        for db in opened:
            db.abandon()
        self._writer.shutdown(cancel_futures=True)
        self._readers.close()
        if self._db is not None:
            self._db.close()


def _size(db: Database) -> int:
    # The server asks its file system; it reads no rows.
    sizes = "SELECT coalesce(sum(pg_total_relation_size(oid)), 0) FROM pg_class"
    query = f"{sizes} WHERE relnamespace = to_regnamespace(?) AND relkind = 'r'"
    return int(db.execute(query, (NAME,)).fetchone()[0])


def options_of(url: str) -> dict[str, Any]:
    """Return how to connect to the database of a URL; raise ValueError, without the URL, if it is wrong."""
    try:
        return {**_DEFAULTS, **conninfo_to_dict(url)}
    except psycopg.ProgrammingError:
        # The message has parts of the URL, which has a password.
        raise ValueError("write postgresql://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full") from None


def place_of(options: dict[str, Any]) -> str:
    """Return which database options name, without the user and the password."""
    return f"{options.get('host', 'localhost')}:{options.get('port', 5432)}/{options.get('dbname', '')}"


def _prepare(connection: psycopg.Connection, statement_s: float) -> None:
    """Set up a session: where the tables are, and when the server ends what takes too long."""
    connection.adapters.register_loader("numeric", IntLoader)
    settings = {
        "search_path": NAME,
        "statement_timeout": f"{round(statement_s * 1_000)}",
        "idle_in_transaction_session_timeout": f"{_IDLE_S_MAX * 1_000}",
    }
    calls = ", ".join("set_config(%s, %s, false)" for _ in settings)
    connection.execute(f"SELECT {calls}".encode(), [each for pair in settings.items() for each in pair])


def _reason(error: psycopg.Error) -> str:
    """Return the reason of an error, without the values of rows, which are in its details."""
    return error.diag.message_primary or one_line(error)


def unfit(version: int | None) -> str:
    """Return what is wrong with tables of a version other than VERSION (None: there are none), and what to do."""
    if version is None:
        return "has no tables; create them by `stepstream readmodel create`"
    if version > VERSION:
        return f"has tables of version {version}, which a newer release made; this one has version {VERSION}: update it"
    return f"has tables of version {version}, not {VERSION}; run `stepstream readmodel migrate`"


def version_of(connection: psycopg.Connection) -> int | None:
    """Return the version of the tables, None if there are none."""
    found = connection.execute("SELECT to_regclass(%s)", (f"{NAME}.schema_version",)).fetchone()
    if found is None or found[0] is None:
        return None
    row = connection.execute(f"SELECT version FROM {NAME}.schema_version".encode()).fetchone()
    return int(row[0]) if row else None


def prepare_tables(url: str, *, replace: bool = False, migrate: bool = False) -> bool:
    """Create the tables; return whether they were created, False if they are of this version.

    With `replace`, tables that exist are dropped first, and with `migrate` those of an earlier version; engines then
    read `history` again. Raise StoreError if the tables are of another version, or the database cannot be used.
    """
    options = options_of(url)
    what = f"the read model at {place_of(options)}"
    try:
        with psycopg.connect(**options, autocommit=True) as connection:
            if (encoding := connection.info.parameter_status("server_encoding")) != "UTF8":
                raise StoreError(f"{what} stores text as {encoding}; create a database with the encoding UTF8")
            version = version_of(connection)
            if version == VERSION and not replace:
                return False
            if (not replace and (version is None) == migrate) or (version or 0) > VERSION:
                raise StoreError(f"{what} {unfit(version)}")
            with connection.transaction():
                _create(connection, drop=version is not None)
            # Engines that are connected connect again, and so check the version.
            others = "datname = current_database() AND application_name = %s AND pid != pg_backend_pid()"
            ended = f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {others} AND usename = current_user"
            connection.execute(ended.encode(), (NAME,))
    except psycopg.Error as error:
        raise StoreError(f"{what} cannot be used ({_reason(error)})") from error
    return True


def _create(connection: psycopg.Connection, *, drop: bool) -> None:
    """Create the tables in place of earlier ones; the schema itself may belong to another user."""
    known = connection.execute("SELECT to_regnamespace(%s)", (NAME,)).fetchone()
    if known is None or known[0] is None:
        connection.execute(f"CREATE SCHEMA {NAME}".encode())
    connection.execute(f"SET LOCAL search_path TO {NAME}".encode())
    connection.execute(f"{DROPPED if drop else ''}{CREATED}".encode())
