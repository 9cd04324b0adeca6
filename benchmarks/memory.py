"""The peak memory of a process whose worker has runs that gather large results.

The log of the worker acknowledges at once and keeps nothing; on Kafka the client has copies of what it is sending too.
"""

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from benchmarks.functions import (
    LARGE_BYTES,
    LARGE_RESULTS,
    LARGE_RUNS,
    Figure,
    app,
    chosen,
    large_results,
    large_together,
)
from stepstream.contract.inbox import RunReturned, decode_inbox
from stepstream.contract.limits import MIB
from stepstream.host.serving import collect_garbage_seldom
from stepstream.runtime.worker.memory import MemoryBudget
from stepstream.runtime.worker.worker import Worker
from tests.fakes.waiting import until
from tests.fakes.worker_log import FakeWorkerLog
from tests.runtime.worker.harness import options, serving, started

_NAME = f"{LARGE_RUNS} runs x {LARGE_RESULTS} results of {LARGE_BYTES / 1e6:.0f} MB"
_S_MAX = 300.0


def memory_gb(figure: str) -> float:
    """Return VmRSS, the resident memory of this process, or VmHWM, the most that it has had, as Linux counts them."""
    found = re.search(rf"{figure}:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
    assert found
    return int(found[1]) * 1_024 / 1e9


class _ForgetfulLog(FakeWorkerLog):
    """A log that counts the runs that have ended, and keeps no report: they are most of the memory otherwise."""

    ended = 0

    async def append(self, _routing_key: str, value: bytes) -> None:
        """Acknowledge a report."""
        await asyncio.sleep(0)
        self.ended += len(value) < MIB and isinstance(decode_inbox(value), RunReturned)


async def _serve(function: str) -> tuple[float, float]:
    log = _ForgetfulLog()
    async with serving(Worker(log, app, options(memory=MemoryBudget()))):
        before_gb = memory_gb("VmRSS")
        log.give(*(started(f"run-{number}", function) for number in range(LARGE_RUNS)))
        await until(lambda: log.ended == LARGE_RUNS, _S_MAX)
    return before_gb, memory_gb("VmHWM")


def _measured(function: str) -> tuple[float, float]:
    """Return the memory of this process before and at most (GB), with the settings of `stepstream worker`."""
    collect_garbage_seldom()
    return asyncio.run(_serve(function))


def _in_a_process(function: str, what: str) -> list[Figure]:
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        before_gb, most_gb = pool.submit(_measured, function).result()
    return [
        Figure("a worker before, memory", before_gb, "GB"),
        Figure(f"{_NAME}, {what}, peak", most_gb, "GB"),
    ]


def returning() -> list[Figure]:
    """Measure bodies that return at once."""
    return _in_a_process(large_results.id, "returned at once")


def together() -> list[Figure]:
    """Measure bodies that all end at the same moment, before the worker can know how large results are."""
    return _in_a_process(large_together.id, "all together")


ALL = (returning, together)


def main(requested: set[str]) -> Iterator[Figure]:
    """Yield the figures of the requested benchmarks, or of all."""
    for measure in chosen(ALL, requested):
        yield from measure()
