"""Searching runs: every term alone, excluded and with others, through each index and in pages."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from stepstream.contract.codec import dump_json, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, RunPaused, RunUnpaused
from stepstream.contract.ids import run_hash, run_id_at
from stepstream.contract.kinds import RunStatus
from stepstream.contract.operators.control import Pause, Rerun
from stepstream.contract.outcomes import ErrorInfo
from stepstream.contract.topics import HISTORY
from stepstream.runtime.ports import LogRecord, StoreError
from stepstream.runtime.readmodel import queries, sqlite_tables
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.readmodel.postgresql_tables import PostgresqlTables
from stepstream.runtime.readmodel.queries import QueryTooSlow
from stepstream.runtime.readmodel.search import search
from stepstream.runtime.readmodel.search.filters import Filter
from tests.postgresql import PostgresqlServer

Condition = Callable[[int], object]
HOUR_MS = 3_600_000
# The 28th of November 2026, 10:00 UTC.
START = 1_795_860_000_000
FUNCTIONS = ("orders.charge", "orders.ship", "mail")
RUNS = 60


def id_of(number: int) -> str:
    """Return the id of a run of the test: one run an hour."""
    return run_id_at(START + number * HOUR_MS, run_hash("f", str(number)))


def history() -> list[HistoryEntry]:
    """Return the history of runs of three functions in all statuses."""
    entries: list[HistoryEntry] = []
    for number in range(RUNS):
        at, function = START + number * HOUR_MS, FUNCTIONS[number % 3]
        event = EventRecord(f"{function}/go", dump_json({"amount": number}), f"e{number}", at)
        caller = id_of(0) if number in (7, 8) else ""
        # Each tenth run reruns the one before it; a bulk operation started those after the 30th.
        bulk = "b1" if number > 30 else ""
        rerun = Rerun(id_of(number - 1), bulk=bulk) if number % 10 == 9 else None
        entries.append(RunBegan(id_of(number), 1, at, function, "shop", at, (event,), caller, rerun))
        error = None
        match number % 4:
            case 0:
                entries.append(RunPaused(id_of(number), 2, at, Pause(0, "ann", "fix")))
                if number % 8:
                    entries.append(RunUnpaused(id_of(number), 3, at))
                continue
            case 1:
                status = RunStatus.COMPLETED
            case 2:
                status, error = RunStatus.FAILED, ErrorInfo("IOError", f'Connection "{number}" refused 100%')
            case _:
                status = RunStatus.CANCELLED
        output = dump_json({"total": number * 2})
        entries.append(RunEnded(id_of(number), 2, at + 1_000, status, function, output, error))
    return entries


def fill(index: RunIndex) -> RunIndex:
    """Fold the history."""
    index.fold([LogRecord(HISTORY, 0, at, b"", encode(entry), (), entry.at) for at, entry in enumerate(history())])
    return index


@pytest.fixture(scope="module")
def on_postgresql(postgresql: PostgresqlServer) -> Iterator[RunIndex]:
    """A read model with the runs in PostgreSQL."""
    index = fill(RunIndex(PostgresqlTables(postgresql.database())))
    yield index
    index.close()


@pytest.fixture(params=["file", "memory", pytest.param("postgresql", marks=pytest.mark.long)])
async def index(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[RunIndex]:
    """A read model with the runs."""
    if request.param == "postgresql":
        yield request.getfixturevalue("on_postgresql")
        return
    index = fill(RunIndex(tmp_path / "runs.sqlite" if request.param == "file" else None))
    yield index
    index.close()


def numbers(condition: Condition) -> list[int]:
    """Return the numbers of the runs for which a condition holds, newest first."""
    return [n for n in reversed(range(RUNS)) if condition(n)]


FOUND: list[tuple[str, Condition]] = [
    ("", lambda _: True),
    ("function:orders.charge", lambda n: n % 3 == 0),
    ("function:orders.*", lambda n: n % 3 < 2),
    ("-function:orders.*", lambda n: n % 3 == 2),
    ("function:mail,orders.ship", lambda n: n % 3 > 0),
    ("function:nothing.*", lambda _: False),
    ("status:failed", lambda n: n % 4 == 2),
    ("status:open,failed", lambda n: n % 2 == 0),
    ("-status:ended", lambda n: n % 4 == 0),
    ("function:mail status:failed", lambda n: n % 3 == 2 and n % 4 == 2),
    ("function:mail,orders.charge -status:failed,completed", lambda n: n % 3 != 1 and n % 4 not in (1, 2)),
    ("paused:true", lambda n: n % 8 == 0),
    ("paused:false", lambda n: n % 8),
    ("-paused:true function:mail", lambda n: n % 8 and n % 3 == 2),
    ("paused:true,false", lambda _: True),
    ("rerun:true", lambda n: n % 10 == 8),
    ("rerun:false status:failed", lambda n: n % 10 != 8 and n % 4 == 2),
    ("-rerun:false,true", lambda _: False),
    (f"origin:{id_of(8)}", lambda n: n == 9),
    ("bulk:b1", lambda n: n in (39, 49, 59)),
    ("bulk:b2", lambda _: False),
    ("-bulk:b1 function:mail", lambda n: n % 3 == 2 and n not in (39, 49, 59)),
    ("app:shop status:failed", lambda n: n % 4 == 2),
    ("-app:shop", lambda _: False),
    ("event:mail/go", lambda n: n % 3 == 2),
    ("event:orders*", lambda n: n % 3 < 2),
    ("-event:orders*", lambda n: n % 3 == 2),
    ("event_id:e7,e9", lambda n: n in (7, 9)),
    ("e7", lambda n: n == 7),
    ("e7,e12", lambda n: n in (7, 12)),
    (id_of(5), lambda n: n == 5),
    (id_of(5).lower(), lambda n: n == 5),
    (id_of(5)[-8:], lambda n: n == 5),
    (f"run_id:{id_of(5)[-8:].lower()}", lambda n: n == 5),
    (f"-run_id:{id_of(5)}", lambda n: n != 5),
    (f"caller:{id_of(0)}", lambda n: n in (7, 8)),
    (f"-caller:{id_of(0)} status:cancelled", lambda n: n % 4 == 3 and n != 7),
    ("error:refused", lambda n: n % 4 == 2),
    ('error:"ioerror: connection"', lambda n: n % 4 == 2),
    (r'error:"\"6\" refused"', lambda n: n == 6),
    ('error:"refused 100%"', lambda n: n % 4 == 2),
    ("error:%", lambda n: n % 4 == 2),
    ("error:r_fused", lambda _: False),
    ("-error:refused function:mail", lambda n: n % 3 == 2 and n % 4 != 2),
    ("error:refused,other function:mail", lambda n: n % 3 == 2 and n % 4 == 2),
    ("after:2026-11-29T10:00", lambda n: n >= 24),
    ("before:2026-11-29T10:00 function:mail", lambda n: n < 24 and n % 3 == 2),
    ("after:2026-11-29T10:00 before:2026-11-29T12:00Z", lambda n: 24 <= n < 26),
    ("started_after:2026-11-29T10:00", lambda n: n >= 24),
    ("ended_after:2026-11-29T10:00", lambda n: n >= 24 and n % 4),
    ("ended_before:2026-11-29T10:00", lambda n: n < 24 and n % 4),
    ('cel:"event.data.amount > 50"', lambda n: n > 50),
    ('cel:"output.total == 10"', lambda n: n == 5),
    ("cel:\"error.name == 'IOError'\"", lambda n: n % 4 == 2),
    ('function:mail cel:"event.data.amount > 50" cel:"event.data.amount < 57"', lambda n: n in (53, 56)),
    ('cel:"event.data.nothing == 1"', lambda _: False),
]


@pytest.mark.parametrize(("text", "condition"), FOUND, ids=[text for text, _ in FOUND])
async def test_a_filter_finds_its_runs_newest_first(text: str, condition: Condition, index: RunIndex) -> None:
    """On one page, on pages of seven, and counted."""
    expected = [id_of(number) for number in numbers(condition)]
    found = Filter.parse(text)
    page = await index.queries.search(found, limit=100)
    assert [run.run_id for run in page.runs] == expected
    assert (page.next, page.stopped) == ("", False)
    pages, before = list[str](), ""
    while True:
        page = await index.queries.search(found, before=before, limit=7)
        pages += [run.run_id for run in page.runs]
        before = page.next
        if not before:
            break
        assert len(page.runs) == 7
    assert pages == expected
    counted = await index.queries.count(found)
    assert (counted.runs, counted.exact) == (len(expected), True)


STATUSES: list[tuple[str, dict[str, int], bool]] = [
    ("", {"running": 15, "completed": 15, "failed": 15, "cancelled": 15}, True),
    ("status:failed", {"running": 15, "completed": 15, "failed": 15, "cancelled": 15}, True),
    ("function:mail status:failed", {"running": 5, "completed": 5, "failed": 5, "cancelled": 5}, True),
    ("event_id:e7,e8 status:failed", {"running": 1, "cancelled": 1}, True),
    ("-status:failed before:2026-11-28T18:00", {"running": 2, "completed": 2, "cancelled": 2}, True),
    ("after:2026-11-28T18:00", {"running": 2, "completed": 2, "failed": 2, "cancelled": 3}, False),
    ('cel:"event.data.amount > 50"', {}, False),
]


@pytest.mark.parametrize(("text", "runs", "exact"), STATUSES, ids=[text for text, _, _ in STATUSES])
async def test_the_runs_of_a_filter_are_counted_by_status(
    text: str, runs: dict[str, int], exact: bool, index: RunIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The status that it asks for does not matter; beyond a bound the numbers say how many there are at least."""
    monkeypatch.setattr(search, "COUNTED_MAX", 9)
    counted = await index.queries.count_statuses(Filter.parse(text))
    assert (dict(counted.runs), counted.exact) == (runs, exact)


@pytest.mark.parametrize("text", ["error:other", 'cel:"event.data.amount < 3"', "-function:orders.* app:shop"])
async def test_a_search_stops_at_its_bound_and_continues(
    text: str, index: RunIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says how many runs it examined, and the next page begins after them; nothing is missed."""
    expected = [run.run_id for run in (await index.queries.search(Filter.parse(text), limit=100)).runs]
    monkeypatch.setattr(search, "EXAMINED_MAX", 4)
    monkeypatch.setattr(search, "EVALUATED_MAX", 4)
    assert not (await index.queries.count(Filter.parse(text))).exact
    found, before, stops = list[str](), "", 0
    while True:
        page = await index.queries.search(Filter.parse(text), before=before, limit=100)
        found += [run.run_id for run in page.runs]
        if not page.next:
            break
        assert (page.stopped, page.examined) == (True, 4)
        stops, before = stops + 1, page.next
    assert found == expected
    assert stops >= 3


async def test_a_query_that_takes_too_long_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread is free again, and the error says what to do."""
    monkeypatch.setattr(queries, "QUERY_S_MAX", 0.0)
    monkeypatch.setattr(sqlite_tables, "_OPERATIONS_PER_CHECK", 1)
    index = RunIndex(tmp_path / "runs.sqlite")
    with pytest.raises(QueryTooSlow, match="narrow the filter"):
        await index.queries.counts()
    monkeypatch.setattr(queries, "QUERY_S_MAX", 60.0)
    assert await index.queries.counts() == {}
    index.close()


async def test_a_query_does_not_hold_up_the_event_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it runs in its thread, other tasks continue."""
    index = RunIndex(tmp_path / "runs.sqlite")
    released = asyncio.Event()
    loop = asyncio.get_running_loop()

    def slow(_: object) -> dict[str, int]:
        asyncio.run_coroutine_threadsafe(released.wait(), loop).result(10)
        return {"failed": 1}

    monkeypatch.setattr("stepstream.runtime.readmodel.reading.counts", slow)
    asked = asyncio.ensure_future(index.queries.counts())
    await asyncio.sleep(0)
    released.set()
    assert await asked == {"failed": 1}
    index.close()


async def test_a_query_that_finds_damage_lets_the_tables_be_rebuilt(tmp_path: Path) -> None:
    """It fails; the next one reads the new tables."""
    path = tmp_path / "runs.sqlite"
    index = RunIndex(path)
    index.fold([LogRecord(HISTORY, 0, 0, b"", encode(history()[0]), (), 0)])
    index.close()
    index = RunIndex(path)
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xa5" * (len(content) - 100))
    asked = await asyncio.gather(*(index.queries.search(Filter()) for _ in range(3)), return_exceptions=True)
    assert {type(error) for error in asked} == {StoreError}
    assert (await index.queries.search(Filter())).runs == []
    assert (tmp_path / "runs.sqlite.aside").exists()
    index.close()
