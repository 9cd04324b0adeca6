"""A read model in PostgreSQL: several processes write it, and a server that fails delays it and loses nothing."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg
import pytest
from msgspec.structs import replace

from stepstream.contract.codec import dump_json, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, StepAttemptFailed, StepEnded, StepPlanned
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.outcomes import ErrorInfo, Failure, Value
from stepstream.contract.topics import HISTORY
from stepstream.runtime.ports import LogRecord, StoreError
from stepstream.runtime.readmodel import postgresql_tables, queries
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.postgresql_tables import PostgresqlTables, prepare_tables
from stepstream.runtime.readmodel.queries import QueryTooSlow
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.runtime.readmodel.tables.schema import VERSION
from tests.fakes.indexes import dumped
from tests.postgresql import PASSWORD, PostgresqlServer, running_server

pytestmark = pytest.mark.long
Open = Callable[..., RunIndex]


def history(shard: int, runs: int) -> list[LogRecord]:
    """Return the history of runs of one shard; every third one fails, and retries before."""
    entries: list[HistoryEntry] = []
    for number in range(runs):
        run, error = f"{shard:02}-{number:04}", ErrorInfo("ValueError", f"order {number} refused")
        began = RunBegan(run, 1, 1_000, f"f{number % 2}", "shop", 1_000, (EventRecord("go", id=f"e-{run}"),))
        entries.append(replace(began, attributes={"order": number}))
        if number % 3:
            entries.append(StepEnded(run, 2, 2_000, "s", "s", StepKind.RUN, Value(dump_json({"n": number}))))
            entries.append(RunEnded(run, 3, 3_000, RunStatus.COMPLETED, f"f{number % 2}"))
        else:
            entries.append(StepAttemptFailed(run, 2, 2_000, "s", "s", 0, error, 9_000))
            entries.append(StepEnded(run, 3, 2_500, "s", "s", StepKind.RUN, Failure(error), 1))
            entries.append(RunEnded(run, 4, 3_000, RunStatus.FAILED, f"f{number % 2}", error=error))
    return [LogRecord(HISTORY, shard, at, b"", encode(entry), (), entry.at) for at, entry in enumerate(entries)]


def folded(index: RunIndex, records: Sequence[LogRecord], size: int = 7) -> None:
    """Fold records in batches, as a process does that reads from the stored position."""
    first = index.position(HISTORY, records[0].partition)
    for at in range(first, len(records), size):
        index.fold(records[at : at + size])


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


def test_two_engines_write_the_same_as_one(url: str, open_index: Open, postgresql: PostgresqlServer) -> None:
    """Each folds its own shards at the same time; sums and groups of errors over all shards count each record once."""
    shards = [history(shard, 40) for shard in range(4)]
    engines = [open_index(url), open_index(url)]

    def fold(number: int) -> None:
        for shard in shards[number::2]:
            folded(engines[number], shard)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(fold, range(2)))
    alone = open_index(postgresql.database())
    for shard in shards:
        folded(alone, shard, 100)
    found, expected = dumped(engines[0]), dumped(alone)
    # Which of the runs that fail alike are the latest samples depends on the order of the shards.
    groups = [tables.pop("error_groups") for tables in (found, expected)]
    assert found == expected
    assert len(groups[0]) == len(groups[1]) > 1
    counted = "SELECT function, step, failures, runs FROM error_groups ORDER BY id"
    assert engines[0]._db.execute(counted).fetchall() == alone._db.execute(counted).fetchall()


def test_engine_that_lost_its_shard_changes_nothing(url: str, open_index: Open) -> None:
    """The new owner continues at the stored position; what the old one still folds is skipped."""
    records = history(0, 20)
    old, new = open_index(url), open_index(url)
    assert old.position(HISTORY, 0) == 0
    old.fold(records[:10])
    assert new.position(HISTORY, 0) == 10
    new.fold(records[10:25])
    before = dumped(new)
    # It has not noticed: its next batches are older than the position, and then overlap it.
    assert old.fold(records[10:20]) == []
    assert dumped(new) == before
    assert len(old.fold(records[20:30])) == 5
    new.fold(records[25:])
    old.fold(records[30:])
    whole = RunIndex()
    whole.fold(records)
    assert {**dumped(new), "error_groups": []} == {**dumped(whole), "error_groups": []}
    assert new.counts() == whole.counts()
    whole.close()


def test_engine_frozen_in_a_transaction_delays_no_other(
    url: str, open_index: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends its transaction, so that the new owner of the shard continues; the old one must read again."""
    monkeypatch.setattr(postgresql_tables, "_IDLE_S_MAX", 1)
    records = history(0, 5)
    frozen, new = open_index(url), open_index(url)
    frozen.position(HISTORY, 0)

    def freeze() -> None:
        with frozen._tables.transaction():
            frozen._db.lock(f"{HISTORY}-0")
            folded(new, records)
            frozen._db.execute("SELECT 1")

    with pytest.raises(StoreError, match="cannot be used"):
        freeze()
    assert frozen.position(HISTORY, 0) == len(records)
    assert frozen.fold(records) == []


def test_emptied_tables_are_rebuilt_from_history(url: str, open_index: Open) -> None:
    """An engine that is running notices that the positions moved back, and reads from the beginning."""
    records = history(0, 20)
    index = open_index(url)
    folded(index, records[:30])
    assert prepare_tables(url, replace=True)
    with suppress(StoreError):
        # The first use finds that its connection was closed.
        index.fold(records[30:])
    with pytest.raises(StoreError, match="restored from an older copy: history-0 must be read again from 0"):
        index.fold(records[30:])
    folded(index, records)
    assert sum(index.counts().values()) == 20
    assert index.position(HISTORY, 0) == len(records)


async def test_server_that_is_killed_delays_the_list(open_index: Open) -> None:
    """Queries and folding fail with a sentence, without the password, and continue once the server is back."""
    with running_server() as server:
        index, records = open_index(server.database()), history(0, 10)
        await index.positions([(HISTORY, 0)])
        await index.folded(records[:20])
        assert len((await index.queries.search(Filter())).runs) > 0
        server.kill()
        failures = []
        for work in (index.folded(records[20:]), index.queries.search(Filter()), index.positions([(HISTORY, 0)])):
            with pytest.raises(StoreError, match=r"the read model at 127.0.0.1:\d+/test_\w+ cannot be used") as failed:
                await work
            failures.append(str(failed.value))
        assert PASSWORD not in "".join(failures)
        server.start()
        first = await index.positions([(HISTORY, 0)])
        assert first == {(HISTORY, 0): 20}
        await index.folded(records[20:])
        assert sum((await index.queries.counts()).values()) == 10


async def test_restart_of_the_server_fails_no_query(open_index: Open) -> None:
    """A connection that was lost since the last query is opened again for the next one."""
    with running_server() as server:
        index = open_index(server.database())
        folded(index, history(0, 3))
        assert sum((await index.queries.counts()).values()) == 3
        server.kill()
        server.start()
        assert sum((await index.queries.counts()).values()) == 3


async def test_frozen_server_is_abandoned(open_index: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """A query and a batch end with a sentence, and their threads are free once the server continues."""
    with running_server() as server:
        index, records = open_index(server.database()), history(0, 3)
        await index.positions([(HISTORY, 0)])
        await index.queries.counts()
        for name, seconds in (("_CONNECT_S", 0.2), ("_WRITE_S_MAX", 0.2)):
            monkeypatch.setattr(postgresql_tables, name, seconds)
        monkeypatch.setattr(queries, "QUERY_S_MAX", 0.2)
        server.signal(signal.SIGSTOP)
        for work in (index.queries.counts(), index.folded(records)):
            with pytest.raises(StoreError, match="does not answer"):
                await work
        server.signal(signal.SIGCONT)
        monkeypatch.setattr(queries, "QUERY_S_MAX", 30.0)
        monkeypatch.setattr(postgresql_tables, "_WRITE_S_MAX", 30.0)
        at = await index.positions([(HISTORY, 0)])
        await index.folded(records[at[HISTORY, 0] :])
        assert sum((await index.queries.counts()).values()) == 3


async def test_a_query_that_takes_too_long_is_ended(
    url: str, open_index: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the server, and the error says what to do."""
    monkeypatch.setattr(queries, "QUERY_S_MAX", 0.05)
    index = open_index(url)
    with pytest.raises(QueryTooSlow, match="narrow the filter"):
        await index.queries._ask(lambda db: db.execute("SELECT pg_sleep(60)").fetchone())
    assert await index.queries.counts() == {}


async def _first(changes: AsyncIterator[object], then: Callable[[], object]) -> object:
    """Return what follows the first item, which says that it listens, once `then` was called."""
    assert await anext(changes) is None
    then()
    return await anext(changes)


async def test_live_pages_learn_what_another_engine_folded(url: str, open_index: Open) -> None:
    """The runs of a batch are announced when it is committed; pages of all engines then show them."""
    index, other = open_index(url), open_index(url)
    async with asyncio.timeout(60):
        found = await _first(index._tables.changed(), lambda: folded(other, history(0, 2)))
        assert found == ["00-0000", "00-0001"]
        following = asyncio.ensure_future(index.follow())
        # The first version says that anything may have changed.
        assert await index.changes.after(0, 60)
        with index.changes.watched():
            version = index.changes.version
            folded(other, history(1, 1))
            assert await index.changes.after(version, 60)
            assert index.changes.among(["01-0000", "00-0000"], version) == ["01-0000"]
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_hostile_texts_are_stored(url: str, open_index: Open) -> None:
    """PostgreSQL stores no NUL: it becomes a visible symbol in what is found, and results stay as they are."""
    nul = "a\0b'%?_\\"
    error = ErrorInfo("Bad\0Error", nul)
    result = Value(dump_json({"x": nul}))
    entries = [
        RunBegan("r", 1, 1, "f", "shop", 1, (EventRecord("go", id=nul),), attributes={"n\0": nul, "x": 1.5, "y": True}),
        StepEnded("r", 2, 1, "s1", nul, StepKind.RUN, result),
        StepPlanned("r", 3, 1, "s2", "w", StepKind.SIGNAL, "\U0010fffe" * 1_024),
        StepEnded("r", 4, 2, "s3", "s", StepKind.RUN, Failure(error)),
        RunEnded("r", 5, 3, RunStatus.FAILED, "f", error=error),
    ]
    index = open_index(url)
    index.fold([LogRecord(HISTORY, 0, at, b"", encode(entry), (), 1) for at, entry in enumerate(entries)])
    assert index.skipped == 0
    run = index.show("r")
    assert run is not None
    assert run.steps[0].output == {"x": nul}
    assert isinstance(run.error, dict)
    assert run.error["message"] == nul
    for text in ('error:"a\u2400b"', 'event_id:"a\0b\'%?_\\\\"', "x=1.5", "x:1*", "y=true", "event:g*", "-event:h*"):
        assert [each.run_id for each in index.find(Filter.parse(text), 0)] == ["r"], text
    while index.drop(ended_before=100):
        pass
    assert all(not rows for table, rows in dumped(index).items() if table.startswith("run_"))


def set_version(url: str, version: int) -> None:
    """Say that the tables are of another version."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE stepstream.schema_version SET version = %s", (version,))


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


async def test_closing_abandons_a_statement(url: str, open_index: Open) -> None:
    """An engine that stops does not wait for a server."""
    index, started = open_index(url), threading.Event()

    def sleep() -> None:
        db = index._db
        started.set()
        with suppress(psycopg.Error):
            db.execute("SELECT pg_sleep(600)")

    asked = asyncio.ensure_future(index._tables.call(sleep))
    await asyncio.to_thread(started.wait)
    index.close()
    await asked
