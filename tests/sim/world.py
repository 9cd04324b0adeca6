"""The engine of a schedule: a virtual one whose ports fail as planned, and whose callers put up with lost answers."""

import asyncio
import functools
from typing import Any

from stepstream import App, StepstreamError
from stepstream.contract.commands import decode_command
from stepstream.contract.limits import Limits
from stepstream.contract.names import workers_name
from stepstream.contract.topics import commands_topic
from stepstream.engine.state.tables import LEASES
from stepstream.runtime.embedded.log import EmbeddedLog
from stepstream.runtime.shard.loop import Shard, ShardOptions
from stepstream.runtime.storage.journal import MemoryStore
from stepstream.testing import VirtualEngine
from tests.sim.faults import Faults
from tests.sim.invariants import check_wakes
from tests.sim.ports import FaultyLog, wrap_port

_QUIET_PASSES = 12
_RESERVE_MS = 1


class World(VirtualEngine):
    """One engine in memory under faults. `complaints` says which answers came before what they spoke of."""

    def __init__(
        self,
        app: App,
        faults: Faults,
        *,
        shards: int,
        live_cache: bool,
        cached_max: int,
        active_max: int,
        limits: Limits,
    ) -> None:
        super().__init__(
            app,
            shards=shards,
            live_cache=live_cache,
            runs_cached_max=cached_max,
            runs_active_max=active_max,
            limits=limits,
            wrap=lambda name, port: wrap_port(faults, name, port),
        )
        self.complaints: list[str] = []
        self._faults = faults
        self._shards = shards
        self._limits = limits
        faults.rival = self._serve_rival
        faults.retire = self._retire

    async def _serve_rival(self, shard: int) -> None:
        """Serve a shard on another machine, with a disk of its own."""
        log = FaultyLog(EmbeddedLog(self.journal, self.clock, shard), self._faults.spared(), shard)
        await Shard(log, MemoryStore(), self.clock, ShardOptions(shard, self._shards, self._limits)).serve()

    async def _retire(self, worker: str, passes: int) -> None:
        """Have a worker drain, for so many passes at most, and end; the next begins then, or when this one leaves."""
        task = next(task for task in self.engine._tasks if task.get_name().endswith(f" {worker}"))
        leaver = self.engine._workers[worker]
        draining = asyncio.ensure_future(leaver.drain(passes % 2 * _RESERVE_MS, 0))
        for _ in range(passes):
            await asyncio.sleep(0)
            if worker in self._faults.left and leaver.serving and self.engine._workers[worker] is leaver:
                self._begin_next(worker, task)
            if not leaver.serving:
                break  # It has failed, and does not begin anew beside the next.
        self._faults.left.discard(worker)
        draining.cancel()
        task.cancel()
        await asyncio.gather(draining, task, return_exceptions=True)
        self._begin_next(worker, task)

    def _begin_next(self, worker: str, task: "asyncio.Task[None]") -> None:
        if task not in self.engine._tasks:
            return
        self.engine._tasks.remove(task)
        (app,) = self.engine.apps
        queue = worker.removeprefix(app.name).removeprefix(".")
        holding = functools.partial(self.engine._serve_worker, app)
        lent = functools.partial(self.engine._serve_pool, app, queue)
        self.engine._supervise(task.get_name(), lent if queue else holding)

    async def until_idle(self) -> None:
        """Return when all is still and nothing is reserved for a worker that is gone: that ends by itself, later."""
        await self._until_still()
        while any(self.embedded.store_of(shard).scan(LEASES.prefix, 1) for shard in range(self._shards)):
            self.clock.advance_to(self.now_ms + _RESERVE_MS)
            await self._until_still()

    async def _until_still(self) -> None:
        """Return when all is still, also what is dead to the others, and stays so for a while."""
        quiet = 0
        while quiet < _QUIET_PASSES:
            await asyncio.sleep(0)
            quiet = quiet + 1 if await self.engine.is_idle() and not self._busy() else 0
        await super().until_idle()
        stores = [self.embedded.store_of(shard) for shard in range(self._shards)]
        self.complaints += check_wakes(stores, self._asked())

    def _asked(self) -> set[str]:
        """Return the runs for which there is a command that no worker is done with."""
        asked: set[str] = set()
        for app in self.engine.apps:
            for queue in ("", *app.queues):
                topic, group = commands_topic(app.name, queue), f"worker-{workers_name(app.name, queue)}"
                for at in range(self.journal.partitions):
                    done, end = self.journal.committed(group, topic, at), self.journal.end(topic, at)
                    asked |= {decode_command(left.value).run_id for left in self.journal.read(topic, at, done, end)}
        return asked

    def _busy(self) -> bool:
        return bool(self._faults.detached or self._faults.hidden)

    async def signal(self, name: str, data: Any = None) -> bool:
        """Send a signal; an answer that is lost says nothing."""
        try:
            delivered = await self.engine.signal(name, data)
        except (TimeoutError, StepstreamError):
            delivered = False
        await self.until_idle()
        return delivered

    async def cancel(self, run_id: str) -> bool:
        """Cancel a run; an answer that is lost says nothing, one that comes is true."""
        try:
            done = await self.engine.cancel(run_id)
            if done and run_id not in self._faults.ended:
                self.complaints.append(f"{run_id}: the answer to cancel came before the end was committed")
        except (TimeoutError, StepstreamError):
            done = False
        await self.until_idle()
        return done
