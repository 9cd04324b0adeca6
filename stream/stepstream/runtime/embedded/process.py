"""All components in one process: shards, workers and the read model, each restarted when it fails."""

import asyncio
import functools
import logging
import platform
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from stepstream import __version__
from stepstream.contract.events import EventRecord
from stepstream.contract.functions import FunctionRegistered
from stepstream.contract.history import HistoryEntry
from stepstream.contract.limits import DEFAULT_LIMITS, FUNCTIONS_LABELLED_MAX, RUNS_ACTIVE_MAX, RUNS_CACHED_MAX, Limits
from stepstream.contract.logs import StepLogged
from stepstream.contract.receipts import SignalReceipt
from stepstream.contract.text.names import workers_name
from stepstream.contract.text.wording import counted
from stepstream.contract.topics import HISTORY
from stepstream.runtime.callers import Callers
from stepstream.runtime.overview import THIS_PROCESS, RunningWorker, ScopeChangeView, ScopePauseView, ShardView
from stepstream.runtime.ports import Backbone, Clock, LiveLog, LogRecord, WorkerLog
from stepstream.runtime.registrations import check_apps, registrations, release_of
from stepstream.runtime.shard.gate_waits import oldest_of
from stepstream.runtime.shard.loop import Observer, Shard, ShardOptions
from stepstream.runtime.storage.failures import UnusableState
from stepstream.runtime.supervision import RESTART_S, keep_serving
from stepstream.runtime.worker.memory import MemoryBudget
from stepstream.runtime.worker.observer import Load, WorkerObserver
from stepstream.runtime.worker.options import WorkerOptions
from stepstream.runtime.worker.pool import PoolWorker
from stepstream.runtime.worker.publisher import LivePublisher
from stepstream.runtime.worker.step_logs import StepLogs
from stepstream.runtime.worker.worker import Worker
from stepstream.sdk.execution import Bodies
from stepstream.sdk.served import ServedApp
from stepstream.sdk.step_logs import catching
from stepstream.sdk.threads.threads import Threads

logger = logging.getLogger(__name__)
DRAIN_S_MAX = 10.0
# Checks whether all is idle: so many in a row beside threads, and then with pauses.
_CHECKS_BESIDE_THREADS_MAX = 20
_CHECK_S = 0.001


class ReadModel(Protocol):
    """What folds history, and knows up to which position it has."""

    def position(self, topic: str, partition: int) -> int:
        """Return the offset of the first record that is not folded yet."""

    def fold(self, records: Sequence[LogRecord]) -> list[HistoryEntry]:
        """Fold records of `history` and store the position after them, atomically; return their entries."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How an EmbeddedEngine runs; `watch` receives each history entry.

    `wrap` receives each port by its name ("log-0", "store-0", "worker-shop") and returns the one to use: tests inject
    faults with it. `restart_s` is the time after which a component that failed is restarted. `unready` says why the
    process is not ready although every shard serves, and is empty if there is no such reason. `keep_logs`
    receives what runs log, `logs_delay_s` later.
    """

    shards: int = 1
    limits: Limits = DEFAULT_LIMITS
    live_cache: bool = True
    runs_cached_max: int = RUNS_CACHED_MAX
    runs_active_max: int = RUNS_ACTIVE_MAX
    bodies: Bodies = field(default_factory=Bodies)
    observer: Observer | None = None
    worker_observer: WorkerObserver | None = None
    watch: Callable[[HistoryEntry], None] | None = None
    wrap: Callable[[str, Any], Any] | None = None
    restart_s: float = RESTART_S
    memory: MemoryBudget = field(default_factory=MemoryBudget)
    unready: Callable[[], str] = str
    keep_logs: Callable[[Sequence[StepLogged]], None] | None = None
    logs_delay_s: float = 0.3


class EmbeddedEngine:
    """All of stepstream in one process. Everything durable is in the backbone."""

    def __init__(
        self,
        apps: Sequence[ServedApp],
        backbone: Backbone,
        clock: Clock,
        index: ReadModel,
        options: EngineOptions | None = None,
    ) -> None:
        self.apps = apps
        self._backbone = backbone
        self.clock = clock
        self.index = index
        self._options = options or EngineOptions()
        self._shards: dict[int, Shard] = {}
        self._workers: dict[str, Worker | PoolWorker] = {}
        self._queue_bodies: dict[str, Bodies] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._logs: StepLogs | None = None
        self._publisher: LivePublisher | None = None
        self._catching = ExitStack()
        self._callers = Callers(backbone.append, self._options.shards, self._options.limits)

    async def start(self) -> None:
        """Register the functions and start every component."""
        await self._register()
        self._publisher = LivePublisher(self._backbone.live.publish, self._options.shards)
        if self._options.keep_logs:
            self._logs = StepLogs(self._keep_logs, self.clock.now_ms, self._options.logs_delay_s)
            self._catching.enter_context(catching())
        for shard in range(self._options.shards):
            self._supervise(f"shard {shard}", functools.partial(self._serve_shard, shard))
        for app in self.apps:
            self._start_workers(app)
        self._supervise("read model", self._serve_index)

    def add(self, app: ServedApp) -> None:
        """Serve one more app, whose functions are registered already."""
        self.apps = [*self.apps, app]
        self._start_workers(app)

    def _start_workers(self, app: ServedApp) -> None:
        app.connect(self)
        self._supervise(f"worker of {app.name}", functools.partial(self._serve_worker, app))
        for queue in app.queues:
            name = f"worker of queue {workers_name(app.name, queue)}"
            self._supervise(name, functools.partial(self._serve_pool, app, queue))

    async def _register(self) -> None:
        check_apps(self.apps)
        if changed := registrations(self.apps, await self._backbone.functions()):
            await self._backbone.append(changed)

    def _supervise(self, name: str, serve: Callable[[], Any]) -> None:
        serving = keep_serving(name, serve, self._options.restart_s)
        self._tasks.append(asyncio.create_task(serving, name=name))

    async def stop(self, *, drain_s: float = DRAIN_S_MAX) -> None:
        """Let running code end, for at most `drain_s` seconds, and stop every component."""
        try:
            async with asyncio.timeout(drain_s):
                await asyncio.gather(*(worker.drain() for worker in self._workers.values()))
        except TimeoutError:
            if drain_s:
                active = sum(worker.active for worker in self._workers.values())
                words = "stopped %s with running code after %g s; a stopped run resumes at the next start"
                logger.warning(words, counted(active, "run"), drain_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()
        self._catching.close()
        if self._logs:
            await self._logs.flush()
        if self._publisher:
            await self._publisher.flush()
        for app in self.apps:
            app.connect(None)
        for bodies in (self._options.bodies, *self._queue_bodies.values()):
            bodies.threads.close()

    def _wrap(self, name: str, port: Any) -> Any:
        return self._options.wrap(name, port) if self._options.wrap else port

    async def _serve_shard(self, shard: int) -> None:
        options = self._options
        log, store = self._backbone.shard_ports(shard)
        served = Shard(
            self._wrap(f"log-{shard}", log),
            self._wrap(f"store-{shard}", store),
            self.clock,
            ShardOptions(shard, options.shards, options.limits, self._answer, options.observer),
        )
        self._shards[shard] = served
        try:
            await served.serve()
        finally:
            self._callers.lose()

    def _answer(self, to: str, status: str) -> None:
        self._backbone.after_commit(lambda: self._callers.answer(to, status))

    async def _serve_worker(self, app: ServedApp) -> None:
        log: WorkerLog = self._wrap(f"worker-{app.name}", self._backbone.worker_log(app.name))
        self._workers[app.name] = worker = Worker(log, app, self._worker_options)
        await worker.serve()

    async def _serve_pool(self, app: ServedApp, queue: str) -> None:
        name = workers_name(app.name, queue)
        log: WorkerLog = self._wrap(f"worker-{name}", self._backbone.worker_log(name))
        # A queue has its own threads, as in production, so bodies of it that hang do not starve other steps.
        if name not in self._queue_bodies:
            threads = Threads(bodies_max=self._options.bodies.threads.bodies.most)
            self._queue_bodies[name] = replace(self._bodies, threads=threads)
        options = replace(self._worker_options, bodies=self._queue_bodies[name])
        self._workers[name] = worker = PoolWorker(log, app, queue, options)
        await worker.serve()

    @property
    def _bodies(self) -> Bodies:
        bodies = replace(self._options.bodies, publisher=self._publisher)
        return replace(bodies, sleep=self._sleep) if self.clock.sleepers else bodies

    async def _sleep(self, body: object, length_ms: int) -> None:
        """Sleep as the body of a step does by a virtual clock."""
        if self.clock.sleepers:
            await self.clock.sleepers.sleep(body, self.clock.now_ms() + length_ms)

    @property
    def _worker_options(self) -> WorkerOptions:
        options = self._options
        return WorkerOptions(
            self.clock,
            self._bodies,
            options.limits,
            options.worker_observer,
            options.live_cache,
            options.runs_active_max,
            options.runs_cached_max,
            options.memory,
            logs=self._logs,
        )

    async def _keep_logs(self, entries: Sequence[StepLogged]) -> None:
        if keep := self._options.keep_logs:
            keep(entries)

    async def _serve_index(self) -> None:
        async for records in self._backbone.history(functools.partial(self.index.position, HISTORY)):
            for entry in self.index.fold(records):
                try:
                    if self._options.watch:
                        self._options.watch(entry)
                except Exception:
                    logger.exception("the callback that watches history failed; the read model continues")

    async def send(self, events: Sequence[EventRecord], chain: int = 0, *, limits: Limits | None = None) -> list[str]:
        """Send events, all or none, as `Callers.send` does; return their ids once they are durable."""
        return await self._callers.send(events, chain, limits=limits)

    async def signal(self, name: str, data: Any = None, by: str = "") -> bool:
        """Send a signal; return whether a run waited for it. `by` is who sends it, for the history of the run."""
        return await self._callers.signal(name, data, by)

    async def signal_with_start(
        self, name: str, data: Any, function: str, start: Any = None, chain: int = 0
    ) -> SignalReceipt:
        """Send a signal to the run that waits for it, or start a function with it; `chain` runs precede it."""
        return await self._callers.signal_with_start(name, data, function, start, chain)

    @property
    def operator(self) -> Callers:
        """Controls runs."""
        return self._callers

    @property
    def serving(self) -> bool:
        """Whether every shard serves."""
        return len(self._shards) == self._options.shards and all(shard.serving for shard in self._shards.values())

    @property
    def unready(self) -> str:
        """Why the process is not ready; empty if it is."""
        serving = self.shards_serving()
        return self._options.unready() or "; ".join(
            f"shard {at} is recovering" for at in range(self._options.shards) if not serving.get(at)
        )

    @property
    def live(self) -> LiveLog:
        """The messages that runs publish."""
        return self._backbone.live

    def functions(self) -> list[FunctionRegistered]:
        """Return all registered functions, retired ones included; none while no shard serves."""
        return next((shard.functions() for shard in self._shards.values() if shard.serving), [])

    def pauses(self) -> list[ScopePauseView]:
        """Return the pauses of functions and queues; none while no shard serves."""
        return next((shard.pauses() for shard in self._shards.values() if shard.serving), [])

    def pause_changes(self, scope: str) -> list[ScopeChangeView]:
        """Return the latest pauses and resumptions of a function or a queue; none while no shard serves."""
        return next((shard.pause_changes(scope) for shard in self._shards.values() if shard.serving), [])

    def oldest_waits(self) -> dict[str, float]:
        """Return the age of the oldest wait for each limit (seconds), of a bounded number of limits."""
        waits = [shard.oldest_waits() for shard in self._shards.values() if shard.serving]
        return oldest_of(waits, self.clock.now_ms(), FUNCTIONS_LABELLED_MAX)

    def shards(self) -> list[ShardView]:
        """Return all shards, in order."""
        serving = self.shards_serving()
        return [
            ShardView(at, THIS_PROCESS, "" if serving.get(at) else "it recovers its tables", is_own=True)
            for at in range(self._options.shards)
        ]

    def shards_serving(self) -> dict[int, bool]:
        """Return whether each shard serves, of those that were started."""
        return {number: shard.serving for number, shard in self._shards.items()}

    @property
    def publisher(self) -> LivePublisher:
        """What writes the live messages of the process, once the engine was started."""
        assert self._publisher
        return self._publisher

    def loads(self) -> dict[str, Load]:
        """Return the load of each worker, by the name of its app or queue."""
        return {name: worker.load for name, worker in self._workers.items()}

    async def workers(self, names: Sequence[str]) -> dict[str, list[RunningWorker]]:
        """Return the workers that run, by name."""
        apps = {workers_name(app.name, queue): app for app in self.apps for queue in ("", *app.queues)}
        versions = (__version__, platform.python_version())
        return {
            name: [RunningWorker(release_of(apps[name]), *versions)] if name in self._workers else [] for name in names
        }

    def next_due(self) -> int | None:
        """Return the time at which the next timer is due, or the next body that sleeps wakes (Unix ms)."""
        wakes = self.clock.sleepers.next_due if self.clock.sleepers else None
        due = [due for due in (wakes, *(shard.due for shard in self._shards.values())) if due is not None]
        return min(due, default=None)

    def _only_sleep(self) -> bool:
        """Return whether nothing happens in the workers, except that bodies sleep by a virtual clock."""
        asleep = self.clock.sleepers.asleep if self.clock.sleepers else 0
        if not asleep:
            return not any(worker.active for worker in self._workers.values())
        running = [worker.only_bodies for worker in self._workers.values()]
        return sum(bodies for bodies in running if bodies is not None) == asleep and None not in running

    def _may_be_idle(self) -> bool:
        due = self.next_due()
        return (
            self.serving
            and len(self._workers) == sum(1 + len(app.queues) for app in self.apps)
            and all(worker.serving for worker in self._workers.values())
            and self._only_sleep()
            and not (self._logs and self._logs.pending)
            and not (self._publisher and self._publisher.pending)
            and (due is None or due > self.clock.now_ms())
        )

    async def is_idle(self) -> bool:
        """Return whether nothing happens until an event arrives or time passes."""
        return self._may_be_idle() and await self._backbone.is_idle()

    def _has_threads(self) -> bool:
        return any(bodies.threads.in_use for bodies in (self._options.bodies, *self._queue_bodies.values()))

    async def until_idle(self) -> None:
        """Return once nothing happens until an event arrives or time passes.

        Raise UnusableState if that cannot be, because the state cannot be written.
        """
        # Several checks in a row: a task that was just woken may not have run yet.
        idle = checks = 0
        while idle < 3:
            if reason := self._options.unready():
                raise UnusableState(reason)
            # A thread may need the CPU that further checks would take.
            is_thread_slow = not idle and checks > _CHECKS_BESIDE_THREADS_MAX and self._has_threads()
            await asyncio.sleep(_CHECK_S if is_thread_slow else 0)
            idle = idle + 1 if await self.is_idle() else 0
            checks += 1
