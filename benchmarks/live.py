"""What an open page costs an engine: a list of 50 live runs, while the read model takes in 500 runs per second."""

import asyncio
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.functions import Figure
from stepstream.api.facade import EngineFacade
from stepstream.api.http import make_api
from stepstream.contract.codec import Raw, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, StepEnded
from stepstream.contract.ids import run_hash, run_id_at
from stepstream.contract.kinds import RunStatus, StepKind
from stepstream.contract.outcomes import Value
from stepstream.contract.topics import HISTORY
from stepstream.runtime.ports import LogRecord
from stepstream.runtime.readmodel.index import RunIndex

SECONDS = 10.0
LIVE_RUNS = 50
RUNS_PER_S = 500
_BATCHES_PER_S = 50
_NOW_MS = 1_750_000_000_000


class _Load:
    """History of many short runs, and of live runs each of which has a new step several times a second."""

    def __init__(self, index: RunIndex) -> None:
        self._index = index
        self._offset = self._short = self._steps = 0
        self.live = [run_id_at(_NOW_MS, run_hash("f", f"live {number}")) for number in range(LIVE_RUNS)]
        self._fold([self._began(run_id) for run_id in self.live])

    @staticmethod
    def _began(run_id: str) -> RunBegan:
        event = EventRecord("bench/go", Raw(b'{"order": 4711}'), run_id)
        return RunBegan(run_id, 1, _NOW_MS, "orders.fulfil", "bench", _NOW_MS, (event,))

    def _fold(self, entries: list[HistoryEntry]) -> None:
        records = []
        for entry in entries:
            records.append(LogRecord(HISTORY, 0, self._offset, entry.run_id.encode(), encode(entry), (), entry.at))
            self._offset += 1
        self._index.fold(records)

    def batch(self) -> None:
        """Fold a fiftieth of a second."""
        entries: list[HistoryEntry] = []
        for _ in range(RUNS_PER_S // _BATCHES_PER_S):
            self._short += 1
            run_id = run_id_at(_NOW_MS + self._short, run_hash("f", f"short {self._short}"))
            entries += [self._began(run_id), self._step(run_id, 2)]
            entries.append(RunEnded(run_id, 3, _NOW_MS, RunStatus.COMPLETED, "orders.fulfil", Raw(b"1")))
        for run_id in self.live[self._steps % 5 :: 5]:
            entries.append(self._step(run_id, 2 + self._steps))
        self._steps += 1
        self._fold(entries)

    @staticmethod
    def _step(run_id: str, seq: int) -> StepEnded:
        return StepEnded(run_id, seq, _NOW_MS, f"{seq:040x}", f"step {seq}", StepKind.RUN, Value(Raw(b"1")))


async def _stream(api: Any, query: str, received: list[bytes]) -> None:
    """Read the stream of the list until the task is cancelled."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/ui/live/runs",
        "raw_path": b"/ui/live/runs",
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(b"host", b"localhost")],
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }

    async def receive() -> dict[str, Any]:
        forever: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        return await forever

    async def send(message: dict[str, Any]) -> None:
        received.append(message.get("body", b""))

    await api(scope, receive, send)


async def _cpu_share(pages: int) -> tuple[float, float]:
    """Return the share of the time that the process uses a CPU, and the messages that each page gets in a second."""
    with tempfile.TemporaryDirectory() as folder:
        index = RunIndex(Path(folder) / "runs.sqlite")
        load = _Load(index)
        nothing: Any = None
        api = make_api(EngineFacade(*[nothing] * _FIELDS), index, lambda: b"")
        received: list[bytes] = []
        query = f"filter=status%3Arunning&shown={','.join(load.live)}"
        tasks = [asyncio.ensure_future(_stream(api, query, received)) for _ in range(pages)]
        begun, cpu = time.perf_counter(), time.process_time()
        for number in range(round(SECONDS * _BATCHES_PER_S)):
            load.batch()
            await asyncio.sleep(max(begun + (number + 1) / _BATCHES_PER_S - time.perf_counter(), 0))
        took, used = time.perf_counter() - begun, time.process_time() - cpu
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        index.close()
    return used / took, len(received) / took / max(pages, 1)


_FIELDS = len(EngineFacade.__dataclass_fields__)


def live_list() -> Iterator[Figure]:
    """Yield what pages cost beyond the load itself."""
    alone, _ = asyncio.run(_cpu_share(0))
    yield Figure(f"{RUNS_PER_S} runs/s without a page: CPU of the read model", alone * 100, "%")
    for pages in (1, 8):
        share, rate = asyncio.run(_cpu_share(pages))
        yield Figure(f"{pages} page(s) of {LIVE_RUNS} live runs: more CPU", (share - alone) * 100, "%", "< 3")
        yield Figure(f"{pages} page(s): messages to each", rate, "/s", "<= 4")


ALL = (live_list,)


def main(_chosen: set[str]) -> Iterator[Figure]:
    """Run the benchmark."""
    yield from live_list()
