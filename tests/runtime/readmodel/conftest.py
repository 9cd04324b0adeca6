"""Where the tables of the read models of these tests are: in SQLite, or in a database of a PostgreSQL server."""

from collections.abc import Callable, Iterator

import pytest

from stepstream.runtime.readmodel.dialect import Tables
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.postgresql_tables import PostgresqlTables
from tests.fakes.indexes import closed_indexes
from tests.postgresql import PostgresqlServer

__all__ = ["closed_indexes"]

NewTables = Callable[[], Tables | None]
Open = Callable[..., RunIndex]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.long)])
def new_tables(request: pytest.FixtureRequest) -> Iterator[NewTables]:
    """Return a function that makes empty tables: None, for SQLite in memory, or those of a new database."""
    made: list[PostgresqlTables] = []

    def make() -> Tables | None:
        if request.param == "sqlite":
            return None
        made.append(PostgresqlTables(request.getfixturevalue("postgresql").database()))
        return made[-1]

    yield make
    for tables in made:
        tables.close()


@pytest.fixture
def url(postgresql: PostgresqlServer) -> str:
    """The URL of a database with empty tables."""
    return postgresql.database()


@pytest.fixture
def open_index() -> Iterator[Open]:
    """Open read models, as several engines do."""
    opened: list[RunIndex] = []

    def open(url: str, origin: str = "topics") -> RunIndex:
        opened.append(RunIndex(PostgresqlTables(url, origin)))
        return opened[-1]

    yield open
    for index in opened:
        index.close()
