"""All parts in one process: shards, workers and the read model over one journal, each begun again when it fails."""

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from stepstream.contract.events import EventRecord
from stepstream.contract.history import HistoryEntry
from stepstream.contract.limits import DEFAULT_LIMITS, RUNS_ACTIVE_MAX, RUNS_CACHED_MAX, Limits
from stepstream.contract.names import workers_name
from stepstream.contract.topics import HISTORY
from stepstream.runtime.callers import Callers
from stepstream.runtime.ports import Backbone, Clock, LogRecord, WorkerLog
from stepstream.runtime.registrations import check_apps, registrations
from stepstream.runtime.shard.loop import Observer, Shard
from stepstream.runtime.supervision import AGAIN_S, keep_serving
from stepstream.runtime.worker.attempts import Load, WorkerObserver
from stepstream.runtime.worker.pool import PoolWorker
from stepstream.runtime.worker.worker import Worker
from stepstream.sdk.app import App
from stepstream.sdk.execution import Bodies

logger = logging.getLogger(__name__)
DRAIN_S_MAX = 10.0
Wrap = Callable[[str, Any], Any]


class ReadModel(Protocol):
    """What history is folded into, with the position up to which it is."""

    def position(self, topic: str, partition: int) -> int:
        """Return the offset of the first record that is not folded in yet."""

    def fold(self, records: Sequence[LogRecord]) -> list[HistoryEntry]:
        """Fold records of `history` in, with their positions, as one; return the entries."""


def _as_it_is(_name: str, port: Any) -> Any:
    return port


class EmbeddedEngine:
    """The whole of stepstream for one process. Everything that must last is in the journal.

    `wrap` is given each port by name as it is made, `watch` each history entry; tests and the terminal use them.
    """

    def __init__(
        self,
        apps: Sequence[App],
        backbone: Backbone,
        clock: Clock,
        index: ReadModel,
        *,
        shards: int = 1,
        limits: Limits = DEFAULT_LIMITS,
        live_cache: bool = True,
        runs_cached_max: int = RUNS_CACHED_MAX,
        runs_active_max: int = RUNS_ACTIVE_MAX,
        bodies: Bodies | None = None,
        observer: Observer | None = None,
        worker_observer: WorkerObserver | None = None,
        watch: Callable[[HistoryEntry], None] | None = None,
        wrap: Wrap | None = None,
        again_s: float = AGAIN_S,
    ) -> None:
        self.apps = apps
        self._backbone = backbone
        self.clock = clock
        self.index = index
        self._shard_count = shards
        self._limits = limits
        self._live_cache = live_cache
        self._cached_max = runs_cached_max
        self._active_max = runs_active_max
        self._bodies = bodies or Bodies()
        self._observer = observer
        self._worker_observer = worker_observer
        self._watch = watch or (lambda _entry: None)
        self._wrap = wrap or _as_it_is
        self._again_s = again_s
        self._shards: dict[int, Shard] = {}
        self._workers: dict[str, Worker | PoolWorker] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._callers = Callers(backbone.append, shards, limits)

    # Life.

    async def start(self) -> None:
        """Register the functions and bring every part up."""
        await self._register()
        for shard in range(self._shard_count):
            self._supervise(f"shard {shard}", functools.partial(self._serve_shard, shard))
        for app in self.apps:
            app.connect(self)
            self._supervise(f"worker of {app.name}", functools.partial(self._serve_worker, app))
            for queue in app.queues:
                name = f"worker of queue {workers_name(app.name, queue)}"
                self._supervise(name, functools.partial(self._serve_pool, app, queue))
        self._supervise("read model", self._serve_index)

    async def _register(self) -> None:
        check_apps(self.apps)
        if changed := registrations(self.apps, await self._backbone.functions()):
            await self._backbone.append(changed)

    def _supervise(self, name: str, serve: Callable[[], Any]) -> None:
        self._tasks.append(asyncio.create_task(keep_serving(name, serve, self._again_s), name=name))

    async def stop(self, *, drain_s: float = DRAIN_S_MAX) -> None:
        """Let the code at work come to rest, for at most `drain_s` seconds, then end every part."""
        try:
            async with asyncio.timeout(drain_s):
                await asyncio.gather(*(worker.drain() for worker in self._workers.values()))
        except TimeoutError:
            if drain_s:
                busy = sum(worker.active for worker in self._workers.values())
                logger.warning("%d runs did not come to rest in %g s; they go on after the next start", busy, drain_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        for app in self.apps:
            app.connect(None)
        self._bodies.threads.close()

    # The parts.

    async def _serve_shard(self, shard: int) -> None:
        log, store = self._backbone.shard_ports(shard)
        served = Shard(
            self._wrap(f"log-{shard}", log),
            self._wrap(f"store-{shard}", store),
            self.clock,
            shard=shard,
            shards=self._shard_count,
            limits=self._limits,
            answer=self._callers.answer,
            observer=self._observer,
        )
        self._shards[shard] = served
        try:
            await served.serve()
        finally:
            self._callers.lose()

    async def _serve_worker(self, app: App) -> None:
        wrapped: WorkerLog = self._wrap(f"worker-{app.name}", self._backbone.worker_log(app.name))
        worker = Worker(
            wrapped,
            self.clock,
            app,
            bodies=self._bodies,
            limits=self._limits,
            live_cache=self._live_cache,
            runs_cached_max=self._cached_max,
            runs_active_max=self._active_max,
            observer=self._worker_observer,
        )
        self._workers[app.name] = worker
        await worker.serve()

    async def _serve_pool(self, app: App, queue: str) -> None:
        name = workers_name(app.name, queue)
        log: WorkerLog = self._wrap(f"worker-{name}", self._backbone.worker_log(name))
        worker = PoolWorker(
            log,
            self.clock,
            app,
            queue,
            bodies=self._bodies,
            limits=self._limits,
            active_max=self._active_max,
            observer=self._worker_observer,
        )
        self._workers[name] = worker
        await worker.serve()

    async def _serve_index(self) -> None:
        async for records in self._backbone.history(functools.partial(self.index.position, HISTORY)):
            for entry in self.index.fold(records):
                try:
                    self._watch(entry)
                except Exception:
                    logger.exception("whoever watches failed on an entry of history; the read model goes on")

    # Callers.

    async def send(self, events: Sequence[EventRecord]) -> list[str]:
        """Send events, all or none; return their ids once they are durable."""
        return await self._callers.send(events)

    async def signal(self, name: str, data: Any = None) -> bool:
        """Send a signal; return whether a run waited for it."""
        return await self._callers.signal(name, data)

    async def cancel(self, run_id: str) -> bool:
        """Cancel a run; return whether it was there and had not ended."""
        return await self._callers.cancel(run_id)

    # Stillness.

    @property
    def serving(self) -> bool:
        """Tell whether every shard serves."""
        return len(self._shards) == self._shard_count and all(shard.serving for shard in self._shards.values())

    @property
    def unready(self) -> str:
        """Why not every shard serves; empty when they do."""
        serving = self.shards_serving()
        return "; ".join(f"shard {at} does not serve yet" for at in range(self._shard_count) if not serving.get(at))

    def shards_serving(self) -> dict[int, bool]:
        """Return of each shard that has begun whether it serves."""
        return {number: shard.serving for number, shard in self._shards.items()}

    def loads(self) -> dict[str, Load]:
        """Return how full the worker of each app is."""
        return {name: worker.load for name, worker in self._workers.items()}

    async def workers(self, names: Sequence[str]) -> dict[str, int]:
        """Return of each name how many workers of it are up."""
        return {name: int(name in self._workers) for name in names}

    def next_due(self) -> int | None:
        """Return when the next timer is due (Unix ms)."""
        due = [shard.due for shard in self._shards.values() if shard.due is not None]
        return min(due, default=None)

    def _may_be_idle(self) -> bool:
        due = self.next_due()
        return (
            self.serving
            and len(self._workers) == sum(1 + len(app.queues) for app in self.apps)
            and all(worker.serving and not worker.active for worker in self._workers.values())
            and (due is None or due > self.clock.now_ms())
        )

    async def is_idle(self) -> bool:
        """Tell whether nothing happens until an event comes or time passes."""
        return self._may_be_idle() and await self._backbone.is_still()

    async def until_idle(self) -> None:
        """Return when nothing happens until an event comes or time passes."""
        still = 0
        while still < 3:
            await asyncio.sleep(0)
            still = still + 1 if await self.is_idle() else 0
