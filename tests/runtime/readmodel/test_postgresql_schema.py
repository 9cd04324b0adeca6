"""The tables of a read model in PostgreSQL: created, migrated, and refused with a sentence if they do not fit."""

import psycopg
import pytest

from stepstream.contract.topics import HISTORY
from stepstream.runtime.ports import StoreError
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.postgresql_tables import PostgresqlTables, prepare_tables
from stepstream.runtime.readmodel.tables.schema import VERSION
from tests.postgresql import PostgresqlServer
from tests.runtime.readmodel.conftest import Open
from tests.runtime.readmodel.shard_history import folded, history

pytestmark = pytest.mark.long


def set_version(url: str, version: int) -> None:
    """Say that the tables are of another version."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE stepstream.schema_version SET version = %s", (version,))


def test_database_of_another_encoding_is_refused(postgresql: PostgresqlServer) -> None:
    """It could not store most texts."""
    with psycopg.connect(postgresql.url("postgres"), autocommit=True) as connection:
        connection.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE_PROVIDER libc LOCALE 'C' TEMPLATE template0")
    with pytest.raises(StoreError, match="stores text as LATIN1; create a database with the encoding UTF8"):
        prepare_tables(postgresql.url("latin"))


def test_tables_are_created_and_migrated(postgresql: PostgresqlServer, open_index: Open) -> None:
    """Each state has a sentence with its remedy; tables of a newer release stay."""
    url = postgresql.database(prepared=False)
    with pytest.raises(StoreError, match="has no tables; create them by `stepstream readmodel create`"):
        open_index(url).counts()
    with pytest.raises(StoreError, match="has no tables"):
        prepare_tables(url, migrate=True)
    assert prepare_tables(url)
    assert not prepare_tables(url)
    assert not prepare_tables(url, migrate=True)
    index = open_index(url)
    folded(index, history(0, 2))
    set_version(url, VERSION - 1)
    with pytest.raises(StoreError, match=f"of version {VERSION - 1}, not {VERSION}; run `stepstream readmodel migrate"):
        prepare_tables(url)
    with pytest.raises(StoreError, match="run `stepstream readmodel migrate`"):
        open_index(url).counts()
    assert prepare_tables(url, migrate=True)
    assert open_index(url).counts() == {}
    set_version(url, VERSION + 1)
    for options in ({}, {"migrate": True}, {"replace": True}):
        with pytest.raises(StoreError, match=f"of version {VERSION + 1}, which a newer release made"):
            prepare_tables(url, **options)
    with pytest.raises(StoreError, match="which a newer release made; this one has version"):
        open_index(url).counts()


def test_engine_stops_when_the_tables_are_migrated(url: str, open_index: Open) -> None:
    """An engine of an earlier release is connected again, and then finds tables that it does not know."""
    index, records = open_index(url), history(0, 4)
    folded(index, records[:5])
    assert prepare_tables(url, replace=True)
    set_version(url, VERSION + 1)
    for _ in range(2):
        with pytest.raises(StoreError):
            index.fold(records[5:])
    with pytest.raises(StoreError, match="which a newer release made"):
        index.fold(records[5:])


def test_a_database_has_the_runs_of_one_cluster(url: str, open_index: Open) -> None:
    """Another namespace, or topics that were created again, would skip entries by its positions."""
    folded(open_index(url), history(0, 1))
    with pytest.raises(StoreError, match=r"has the runs of other topics: .* `stepstream readmodel create --replace`"):
        open_index(url, "others").position(HISTORY, 0)


def test_tables_that_are_not_ours_stay(postgresql: PostgresqlServer) -> None:
    """The schema may have other tables, which are not dropped."""
    url = postgresql.database(prepared=False)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA stepstream; CREATE TABLE stepstream.runs (theirs text)")
    with pytest.raises(StoreError, match='relation "runs" already exists'):
        prepare_tables(url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("ALTER TABLE stepstream.runs RENAME TO orders")
    assert prepare_tables(url)
    assert prepare_tables(url, replace=True)
    with psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute("SELECT count(*) FROM stepstream.orders").fetchone() == (0,)


@pytest.mark.parametrize("url", ["postgresql://u:s3cret@h:port/d", "postgresql://u:s3cret@h/d?sslmode", "postgres://["])
def test_a_wrong_url_is_refused_without_its_password(url: str) -> None:
    """The message says what to write."""
    with pytest.raises((ValueError, StoreError)) as refused:
        RunIndex(PostgresqlTables(url)).position(HISTORY, 0)
    assert "s3cret" not in repr(refused.value)
