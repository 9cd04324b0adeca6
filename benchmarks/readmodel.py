"""The list of runs with a million of them: how fast history is folded, and how long its queries and pages take."""

import asyncio
import os
import resource
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path

import httpx

from benchmarks.functions import Figure, chosen
from stepstream import App
from stepstream.api.guards import Keys
from stepstream.api.http import make_api
from stepstream.contract.codec import NULL, dump_json, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, StepEnded, StepPlanned
from stepstream.contract.ids import run_hash, run_id_at, step_hash
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.outcomes import ErrorInfo, Failure, Value
from stepstream.contract.topics import HISTORY
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.readmodel.index import RUNS_FILE, RunIndex
from stepstream.runtime.readmodel.postgresql_tables import PostgresqlTables, prepare_tables
from stepstream.runtime.readmodel.search.filters import Filter
from stepstream.testing import VirtualEngine
from tests.fakes.facades import facade_of
from tests.postgresql import running_server, tables_bytes

# Another number takes less time, and measures less.
RUNS = int(os.environ.get("RUNS", "1000000"))
STEPS_OF_LONG_RUN = 1_000
_FUNCTIONS = 20
_TENANTS = 1_000
_RUNS_PER_BATCH = 100
_SAMPLES = 30
# Six hours at 46 runs a second.
_NOW_MS = 1_795_860_000_000
_RUN_MS = 20
_FAILS_EVERY, _WAITS_EVERY = 20, 100


def _id(number: int) -> str:
    return run_id_at(_NOW_MS + number * _RUN_MS, run_hash("bench", str(number)))


def _history(number: int) -> Iterator[HistoryEntry]:
    """Yield the history of a run of two steps; some runs fail, some wait for an event."""
    run_id, at = _id(number), _NOW_MS + number * _RUN_MS
    function = f"shop.function-{number % _FUNCTIONS}"
    event = EventRecord("shop/order", dump_json({"order_id": number, "total": number % 997}), f"e-{number}", at)
    attributes: dict[str, str | int | float | bool] = {"order_id": number, "tenant": f"t-{number % _TENANTS}"}
    yield RunBegan(run_id, 1, at, function, "shop", at, (event,), attributes=attributes)
    yield _step(run_id, 2, "pick", at)
    if number % _WAITS_EVERY == 1:
        waits = f"shop/paid-{number % 50} data.order_id"
        yield StepPlanned(run_id, 3, at, step_hash("paid", 0), "paid", StepKind.WAIT, waits, at + 3_600_000)
    elif number % _FAILS_EVERY == 2:
        error = ErrorInfo(
            "ConnectionError", f"connection {number} to bank-{number % 40} was refused", stack="at bank.py"
        )
        yield StepEnded(run_id, 3, at + 10, step_hash("pay", 0), "pay", StepKind.RUN, Failure(error), 4)
        yield RunEnded(run_id, 4, at + 11, RunStatus.FAILED, function, NULL, error)
    else:
        yield _step(run_id, 3, "charge", at + 10)
        yield RunEnded(run_id, 4, at + number % 900, RunStatus.COMPLETED, function, dump_json({"paid": number}))


def _step(run_id: str, seq: int, id: str, at: int) -> StepEnded:
    return StepEnded(run_id, seq, at + 5, step_hash(id, 0), id, StepKind.RUN, Value(dump_json({"ok": True})), 0, at)


def _fill(index: RunIndex) -> float:
    """Fold the history of all runs; return how long that took (s)."""
    taken, offset = 0.0, 0
    for first in range(0, RUNS, _RUNS_PER_BATCH):
        entries = [entry for number in range(first, first + _RUNS_PER_BATCH) for entry in _history(number)]
        records = [
            LogRecord(HISTORY, 0, offset + n, b"", encode(entry), (), _NOW_MS) for n, entry in enumerate(entries)
        ]
        offset += len(records)
        begun = time.perf_counter()
        index.fold(records)
        taken += time.perf_counter() - begun
    long = _id(RUNS)
    event = EventRecord("shop/import", id="long", ts=_NOW_MS)
    steps = [_step(long, 2 + n, f"page-{n}", _NOW_MS + n) for n in range(STEPS_OF_LONG_RUN)]
    whole = [RunBegan(long, 1, _NOW_MS, "shop.import", "shop", _NOW_MS, (event,)), *steps]
    index.fold([LogRecord(HISTORY, 0, offset + n, b"", encode(entry), (), _NOW_MS) for n, entry in enumerate(whole)])
    return taken


FILTERS = {
    "newest": "",
    "by status": "status:failed",
    "by function": "function:shop.function-7 status:completed",
    "by order": f"order_id={RUNS // 2}",
    "by tenant": "tenant=t-123 status:failed",
    "by event": f"event_id:e-{RUNS // 3}",
    "by the end of an id": f"run_id:{_id(RUNS // 4)[-8:]}",
    "by error text": 'error:"bank-7"',
    "by expression": 'function:shop.function-3 cel:"event.data.total > 990"',
    "nothing found": "order_id=none",
}


async def _measure(index: RunIndex) -> Iterator[Figure]:
    queries: dict[str, Callable[[], Awaitable[object]]] = {
        f"list, {name}": partial(index.queries.search, Filter.parse(text)) for name, text in FILTERS.items()
    }
    queries |= {
        "one run": lambda: index.queries.show(_id(RUNS // 2)),
        "counts by status": index.queries.counts,
        "groups of errors": index.queries.error_groups,
        "timings of steps": partial(index.queries.timings, _NOW_MS),
    }
    async with AsyncExitStack() as stack:
        engine = await stack.enter_async_context(VirtualEngine(App("bench")))
        api = make_api(facade_of(engine.engine), index, bytes, keys=Keys(), now_ms=lambda: _NOW_MS)
        transport = httpx.ASGITransport(api)
        client = await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://localhost"))
        pages = {
            "page Runs": "/ui/runs",
            "page Performance": "/ui/performance",
            "page Functions": "/ui/functions",
            "page Runs, one tenant": "/ui/runs?filter=tenant%3Dt-123",
            "page Run, two steps": f"/ui/runs/{_id(RUNS // 2)}",
            f"page Run, {STEPS_OF_LONG_RUN:,} steps of a loop": f"/ui/runs/{_id(RUNS)}",
            f"page Run, {STEPS_OF_LONG_RUN:,} rows": f"/ui/runs/{_id(RUNS)}?fold=page-%23",
        }
        queries |= {name: partial(_get, client, path) for name, path in pages.items()}
        figures = [figure for name, query in queries.items() for figure in await _time(name, query)]
    return iter(figures)


async def _get(client: httpx.AsyncClient, path: str) -> None:
    (await client.get(path)).raise_for_status()


async def _time(name: str, query: Callable[[], Awaitable[object]]) -> list[Figure]:
    taken = []
    for _ in range(_SAMPLES):
        begun = time.perf_counter()
        await query()
        taken.append((time.perf_counter() - begun) * 1e3)
    taken.sort()
    return [Figure(f"{name}: median", taken[len(taken) // 2], "ms"), Figure(f"{name}: slowest", taken[-1], "ms")]


def million_runs() -> Iterator[Figure]:
    """Measure a list of a million runs on SQLite."""
    with tempfile.TemporaryDirectory() as folder:
        yield from _list_of_runs(
            RunIndex(Path(folder) / RUNS_FILE), lambda: sum(file.stat().st_size for file in Path(folder).iterdir())
        )


def million_runs_on_postgresql() -> Iterator[Figure]:
    """Measure the same on PostgreSQL: in the empty database that STEPSTREAM_READ_MODEL names, or on a new server."""
    with ExitStack() as stack:
        if not (url := os.environ.get("STEPSTREAM_READ_MODEL", "")):
            url = stack.enter_context(running_server()).database(prepared=False)
        if not prepare_tables(url):
            raise SystemExit("the database has a read model already: give an empty one")
        yield from _list_of_runs(RunIndex(PostgresqlTables(url)), lambda: tables_bytes(url))


def _list_of_runs(index: RunIndex, size: Callable[[], int]) -> Iterator[Figure]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    taken = _fill(index)
    yield Figure("runs folded", RUNS / taken, "/s")
    yield Figure("size of a run on disk", size() / RUNS, "bytes")
    yield from asyncio.run(_measure(index))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield Figure("memory that was added", (after - before) / 1_024, "MiB")
    index.close()


ALL = (million_runs, million_runs_on_postgresql)


def main(requested: set[str]) -> Iterator[Figure]:
    """Run the benchmarks."""
    for measure in chosen(ALL, requested):
        yield from measure()
