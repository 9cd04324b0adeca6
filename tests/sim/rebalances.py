"""A world with two workers for the runs, and two for each queue, whose groups rebalance while bodies are running."""

import asyncio
import functools
from collections.abc import Awaitable, Callable

from stepstream import App
from stepstream.contract.limits import Limits
from stepstream.runtime.embedded.embedded_worker_log import EmbeddedWorkerLog
from stepstream.runtime.worker.pool import PoolWorker
from stepstream.runtime.worker.worker import Worker
from tests.sim.faults import Faults, Rebalances
from tests.sim.group import Group, MemberLog
from tests.sim.ownership import OwnershipCheck
from tests.sim.world import LEASE_MS, Setting, World

_SECOND = "#2"


class GroupWorld(World):
    """A world whose workers are members of groups. The second worker of a group has a name that ends with `#2`."""

    def __init__(self, app: App, faults: Faults, setting: Setting, limits: Limits, rebalances: Rebalances) -> None:
        super().__init__(app, faults, setting, limits)
        self._rebalances = rebalances
        self._ownership = OwnershipCheck(faults)
        self._groups: dict[str, Group] = {}
        self._seconds: dict[str, tuple[Worker | PoolWorker, MemberLog]] = {}
        faults.worker_log = self._member

    def _member(self, log: EmbeddedWorkerLog, faults: Faults, worker: str) -> MemberLog:
        name = worker.removesuffix(_SECOND)
        if name not in self._groups:
            self._groups[name] = Group(faults, self._rebalances, self._ownership, self._drain)
        return MemberLog(log, faults, worker, self._groups[name])

    async def __aenter__(self) -> "GroupWorld":
        """Start the engine and the second workers."""
        await super().__aenter__()
        (app,) = self.engine.apps
        for name in (app.name, *(f"{app.name}.{queue}" for queue in app.queues)):
            self.engine._supervise(f"second worker {name}{_SECOND}", self._serve(name + _SECOND))
        return self

    def _worker(self, name: str) -> Worker | PoolWorker:
        return self._seconds[name][0] if name in self._seconds else super()._worker(name)

    def _serve(self, worker: str) -> Callable[[], Awaitable[None]]:
        if worker.endswith(_SECOND):
            return functools.partial(self._serve_second, worker)
        return super()._serve(worker)

    async def _serve_second(self, worker: str) -> None:
        (app,) = self.engine.apps
        name = worker.removesuffix(_SECOND)
        queue = name.removeprefix(app.name).removeprefix(".")
        log = self._member(EmbeddedWorkerLog(self.journal, self.clock, name, self._shards), self._faults, worker)
        options = self.engine._worker_options
        serving = PoolWorker(log, app, queue, options) if queue else Worker(log, app, options)
        self._seconds[worker] = serving, log
        await serving.serve()

    async def _drain(self, worker: str, leaves: bool) -> None:
        """Drain a worker until its code has ended, stop it, and start its successor.

        If it `leaves`, another worker gets its partitions while its bodies are running.
        """
        task = self._task(worker)
        leaver = self._worker(worker)
        await leaver.drain(LEASE_MS if leaves else 0, 0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self._start_successor(worker, task)

    def _busy(self) -> bool:
        return super()._busy() or any(
            not worker.serving or worker.active or log.embedded.unread() for worker, log in self._seconds.values()
        )

    async def _until_still(self) -> None:
        await super()._until_still()
        self._ownership.idle(self.stores)
        self.complaints += self._ownership.complaints
        self._ownership.complaints.clear()
