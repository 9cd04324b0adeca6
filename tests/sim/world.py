"""The system under simulation: a VirtualEngine whose ports fail as planned, and whose clients tolerate lost replies."""

import asyncio
import functools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from stepstream import App, StepstreamError
from stepstream.contract.commands import Command, decode_command
from stepstream.contract.limits import RUNS_ACTIVE_MAX, RUNS_CACHED_MAX, Limits
from stepstream.contract.receipts import SignalReceipt
from stepstream.contract.text.names import workers_name
from stepstream.contract.topics import commands_topic
from stepstream.engine.state.rows import Run
from stepstream.engine.state.tables import LEASES, RUNS, decode_row, run_key
from stepstream.runtime.callers import AnswerLostError, UnavailableError
from stepstream.runtime.embedded.log import EmbeddedLog
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.shard.loop import Shard, ShardOptions
from stepstream.runtime.storage.journal import MemoryStore
from stepstream.runtime.worker.pool import PoolWorker
from stepstream.runtime.worker.worker import Worker
from stepstream.testing import VirtualEngine
from tests.sim.faults import Faults
from tests.sim.invariants import check_gates, check_wakes, check_work
from tests.sim.late_index import LateIndex
from tests.sim.operators import Operator
from tests.sim.ports import FaultyLog, wrap_port
from tests.sim.share_invariants import check_shares

# Nothing may happen for so many passes before the world counts as idle.
_IDLE_PASSES = 12
LEASE_MS = 1


@dataclass(frozen=True, slots=True)
class Setting:
    """The program of a schedule, the number of shards, and the options of its worker.

    With `reads` the reads of a store may fail, too.
    """

    program: str
    shards: int = 1
    live_cache: bool = True
    runs_cached_max: int = RUNS_CACHED_MAX
    runs_active_max: int = RUNS_ACTIVE_MAX
    reads: bool = False


class World(VirtualEngine):
    """One engine in memory under faults. `complaints` are the broken invariants that it has noticed so far."""

    def __init__(self, app: App, faults: Faults, setting: Setting, limits: Limits) -> None:
        super().__init__(
            app,
            shards=setting.shards,
            live_cache=setting.live_cache,
            runs_cached_max=setting.runs_cached_max,
            runs_active_max=setting.runs_active_max,
            limits=limits,
            wrap=lambda name, port: wrap_port(faults, name, port),
        )
        self.complaints: list[str] = []
        self._faults = faults
        self._shards = setting.shards
        self._limits = limits
        faults.rival = self._serve_rival
        faults.retire = self._retire
        self._operator = None if faults.operator is None else Operator(faults.operator, faults)
        if self._operator:
            faults.watch = self._operator.committed
            faults.opened = self._attach_operator

    def _open_index(self, file: Path | None) -> RunIndex:  # noqa: ARG002 - the simulation is in memory
        return cast(RunIndex, LateIndex())

    def _attach_operator(self, worker: Any, name: str) -> None:
        topic = commands_topic(name.partition("#")[0])

        def commands(partition: int, end: int) -> list[Command]:
            read = self.journal.read(topic, partition, 0, end)
            return [decode_command(each.value) for each in read if each.offset < end]

        if self._operator:
            self._operator.attach(worker, commands)

    def operating(self) -> "asyncio.Task[None] | None":
        """Start the operator, if there is one."""
        if self._operator is None:
            return None
        return asyncio.create_task(self._operator.operate(self, self._rows_of_runs))

    def epoch_of(self, run_id: str) -> int:
        """Return the epoch of an open run in the tables, 0 if it has ended."""
        key = run_key(run_id)
        rows = (store.get(key.encode()) for store in self.stores)
        found = next(filter(None, rows), None)
        row = decode_row(RUNS.prefix, found) if found else None
        return row.epoch if isinstance(row, Run) else 0

    def _rows_of_runs(self) -> list[bytes]:
        return [value for store in self.stores for _, value in store.scan(RUNS.prefix, len(store.rows))]

    @property
    def stores(self) -> list[MemoryStore]:
        """The tables of all shards."""
        return [self.embedded.store_of(shard) for shard in range(self._shards)]

    async def _serve_rival(self, shard: int) -> None:
        """Serve a shard on another machine, with an empty disk."""
        log = FaultyLog(EmbeddedLog(self.journal, self.clock, shard), self._faults.without_plan(), shard)
        await Shard(log, MemoryStore(), self.clock, ShardOptions(shard, self._shards, self._limits)).serve()

    async def _retire(self, worker: str, passes: int) -> None:
        """Drain a worker for at most so many passes, and stop it.

        Its successor starts when the worker leaves its group, or when it has stopped.
        """
        task = self._task(worker)
        leaver = self._worker(worker)
        draining = asyncio.ensure_future(leaver.drain(passes % 2 * LEASE_MS, 0))
        for _ in range(passes):
            await asyncio.sleep(0)
            if worker in self._faults.left and leaver.serving and self._worker(worker) is leaver:
                self._start_successor(worker, task)
            if not leaver.serving:
                break  # It has failed, and must not be restarted beside its successor.
        self._faults.left.discard(worker)
        draining.cancel()
        task.cancel()
        await asyncio.gather(draining, task, return_exceptions=True)
        self._start_successor(worker, task)

    def _start_successor(self, worker: str, task: "asyncio.Task[None]") -> None:
        if task not in self.engine._tasks:
            return
        self.engine._tasks.remove(task)
        self.engine._supervise(task.get_name(), self._serve(worker))

    def _task(self, worker: str) -> "asyncio.Task[None]":
        return next(task for task in self.engine._tasks if task.get_name().endswith(f" {worker}"))

    def _worker(self, name: str) -> Worker | PoolWorker:
        return self.engine._workers[name]

    def _serve(self, worker: str) -> Callable[[], Awaitable[None]]:
        """Return what serves a worker of this name."""
        (app,) = self.engine.apps
        if queue := worker.removeprefix(app.name).removeprefix("."):
            return functools.partial(self.engine._serve_pool, app, queue)
        return functools.partial(self.engine._serve_worker, app)

    async def until_idle(self) -> None:
        """Return when the world is idle and no lease is left; the lease of a worker that died has to expire first."""
        await self._until_still()
        while any(store.scan(LEASES.prefix, 1) for store in self.stores):
            self.clock.advance_to(self.now_ms + LEASE_MS)
            await self._until_still()

    async def _until_still(self) -> None:
        """Return when the world has been idle for a while, including calls that outlived their process."""
        idle_passes = 0
        while idle_passes < _IDLE_PASSES:
            await asyncio.sleep(0)
            idle_passes = idle_passes + 1 if await self.engine.is_idle() and not self._busy() else 0
        await super().until_idle()
        commanded = self._commanded()
        self.complaints += check_wakes(self.stores, commanded)
        self.complaints += check_work(self.stores, commanded)
        self.complaints += check_gates(self.stores)
        self.complaints += check_shares(self.stores)
        if self._operator:
            self.complaints += self._operator.complaints
            self._operator.complaints.clear()

    def _commanded(self) -> set[str]:
        """Return the runs that have a command which no worker has acknowledged."""
        commanded: set[str] = set()
        for app in self.engine.apps:
            for queue in ("", *app.queues):
                topic, group = commands_topic(app.name, queue), f"worker-{workers_name(app.name, queue)}"
                for at in range(self.journal.partitions):
                    done, end = self.journal.committed(group, topic, at), self.journal.end(topic, at)
                    commanded |= {decode_command(left.value).run_id for left in self.journal.read(topic, at, done, end)}
        return commanded

    def _busy(self) -> bool:
        return bool(self._faults.detached or self._faults.hidden or (self._operator and self._operator.is_busy))

    async def signal(self, name: str, data: Any = None) -> bool:
        """Send a signal; return whether a run got it, as far as the reply was not lost."""
        try:
            delivered = await self.engine.signal(name, data)
        except (TimeoutError, StepstreamError):
            delivered = False
        await self.until_idle()
        return delivered

    async def signal_with_start(self, name: str, data: Any = None, **start: Any) -> SignalReceipt:
        """Send a signal that may start a run; send it until it is answered, as its reply may be lost."""
        while True:
            try:
                return await super().signal_with_start(name, data, **start)
            except (TimeoutError, UnavailableError, AnswerLostError):
                await self.until_idle()

    async def rerun(self, run_id: str, **options: Any) -> str:
        """Rerun a run; send the request until it is answered, as its reply may be lost."""
        while True:
            try:
                return await super().rerun(run_id, **options)
            except (TimeoutError, UnavailableError, AnswerLostError):
                await self.until_idle()

    async def bulk(self, action: str, **options: Any) -> str:
        """Start a bulk operation; send the request until it is answered, as its reply may be lost."""
        while True:
            try:
                return await super().bulk(action, **options)
            except (TimeoutError, UnavailableError, AnswerLostError):
                await self.until_idle()

    async def cancel(self, run_id: str, *, why: str = "", children: bool = False) -> bool:
        """Cancel a run; a positive reply must not precede the commit of its end, and any reply may be lost."""
        try:
            done = await self.engine.operator.cancel(run_id, "test", why, children=children)
            if done and run_id not in self._faults.ended:
                self.complaints.append(f"{run_id}: the reply to cancel came before the end of the run was committed")
        except (TimeoutError, StepstreamError):
            done = False
        await self.until_idle()
        return done
