"""A read model in PostgreSQL: several processes write it, and a server that fails delays it and loses nothing."""

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg
import pytest
from msgspec.structs import replace

from stepstream.contract.codec import dump_json, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.history import RunBegan, RunEnded, StepEnded, StepPlanned
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.limits import DAY_MS
from stepstream.contract.outcomes import ErrorInfo, Failure, Value
from stepstream.contract.topics import HISTORY
from stepstream.runtime.ports import LogRecord, StoreError
from stepstream.runtime.readmodel import postgresql_tables, queries
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.postgresql_tables import PostgresqlTables, prepare_tables
from stepstream.runtime.readmodel.pruning import Retention
from stepstream.runtime.readmodel.queries import QueryTooSlow
from stepstream.runtime.readmodel.search.filters import Filter
from tests.fakes.indexes import dumped
from tests.postgresql import PASSWORD, PostgresqlServer, running_server, tables_bytes
from tests.runtime.readmodel.conftest import Open
from tests.runtime.readmodel.shard_history import folded, history

pytestmark = pytest.mark.long


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
    records = history(0, 5)
    frozen, new = open_index(url), open_index(url)
    with monkeypatch.context() as patched:
        patched.setattr(postgresql_tables, "_IDLE_S_MAX", 1)
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
    # Long enough for the statements of a new connection, on a loaded machine too.
    monkeypatch.setattr(queries, "QUERY_S_MAX", 1.0)
    index = open_index(url)
    with pytest.raises(QueryTooSlow, match="narrow the filter"):
        await index.queries._ask(lambda db: db.execute("SELECT pg_sleep(60)").fetchone())
    monkeypatch.undo()
    assert await open_index(url).queries.counts() == {}


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


async def test_the_size_of_the_tables_is_known(url: str, open_index: Open) -> None:
    """It has the indexes, and grows with the rows; a file has no server to ask."""
    index = open_index(url)
    empty = await index.server_bytes()
    folded(index, history(0, 200))
    filled = await index.server_bytes()
    assert empty is not None
    assert filled is not None
    assert 0 < empty < filled < tables_bytes(url)
    file = RunIndex()
    assert await file.server_bytes() is None
    file.close()


def test_engines_prune_at_the_same_time(url: str, open_index: Open) -> None:
    """Each run is dropped once, while another engine folds, and the sums are right."""
    kept = Retention(DAY_MS)
    engines = [RunIndex(PostgresqlTables(url, "topics"), retention=kept) for _ in range(2)]
    folded(engines[0], history(0, 30))
    new = RunBegan("new", 1, 3 * DAY_MS, "f", "shop", 3 * DAY_MS, (EventRecord("go", id="e"),))
    for shard, index in enumerate(engines, 1):
        # The age of runs counts from the latest record that an engine has folded.
        record = LogRecord(HISTORY, shard, 0, b"", encode(replace(new, run_id=f"new-{shard}")), (), 3 * DAY_MS)
        index.fold([record])

    def work(number: int) -> None:
        if number < len(engines):
            while engines[number].prune():
                pass
        else:
            folded(open_index(url), history(9, 30))

    with ThreadPoolExecutor(3) as threads:
        list(threads.map(work, range(3)))
    while engines[0].prune():
        pass
    assert engines[0].counts() == {"running": 2}
    assert {table: len(rows) for table, rows in dumped(engines[0]).items()} == {
        **dict.fromkeys(dumped(engines[0]), 0),
        "runs": 2,
        "run_texts": 2,
        "run_events": 2,
        "run_names": 2,
        "run_sums": 1,
        "step_sums": 1,
        "positions": 4,
    }
    for index in engines:
        index.close()


async def test_hostile_texts_are_stored(url: str, open_index: Open) -> None:
    """PostgreSQL stores no NUL: it becomes a visible symbol in what is found, and results stay as they are."""
    nul = "a\0b'%?_\\"
    error = ErrorInfo("Bad\0Error", nul)
    result = Value(dump_json({"x": nul}))
    # Longer than an entry of an index may be, also after compression.
    long = "".join(chr(0x10000 + number * 37) for number in range(1_024))
    entries = [
        RunBegan("r", 1, 1, "f", "shop", 1, (EventRecord("go", id=nul),), attributes={"n\0": nul, "x": 1.5, "y": True}),
        StepEnded("r", 2, 1, "s1", nul, StepKind.RUN, result),
        StepPlanned("r", 3, 1, "s2", "w", StepKind.SIGNAL, long),
        StepEnded("r", 4, 2, "s3", "s", StepKind.RUN, Failure(error)),
        StepEnded("r", 5, 2, "s4", long, StepKind.RUN, result, started_at=1),
        RunEnded("r", 6, 3, RunStatus.FAILED, "f", error=error),
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
