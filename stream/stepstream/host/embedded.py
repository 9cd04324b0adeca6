"""The whole of stepstream in one process, durable, with its HTTP API: what `stepstream dev` runs."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple, Protocol

from stepstream.api.bodies import BodyBudget
from stepstream.api.facade import EngineFacade
from stepstream.contract.history import HistoryEntry
from stepstream.contract.kinds import OPEN_RUN_STATUSES
from stepstream.contract.limits import MIB
from stepstream.contract.logs import StepLogged
from stepstream.gateway.connect.connect_readings import connect_readings
from stepstream.host.agents import agents_served
from stepstream.host.connect_port import listen_for_workers
from stepstream.host.deadletters.latest import LatestDeadLetters, LocalDeadLetterLog
from stepstream.host.folder import locked_folder
from stepstream.host.http_server import engine_api, probes, serve_http
from stepstream.host.monitoring.disk import DiskGauges
from stepstream.host.monitoring.gauges import EmbeddedGauges, index_readings, memory_readings, publisher_readings
from stepstream.host.monitoring.versions import build_info
from stepstream.host.replaying import clock_of, was_replayed
from stepstream.host.sdk_apps import REALTIME_PATHS, Hosting, Polling, SdkApps, connections_of, polled
from stepstream.host.serving import listen, stop_on_signals
from stepstream.host.settings import NEVER, Settings
from stepstream.host.unmatched import UnmatchedEventReporter
from stepstream.runtime.embedded.log import EmbeddedBackbone
from stepstream.runtime.embedded.process import EmbeddedEngine, EngineOptions
from stepstream.runtime.metrics import Metrics
from stepstream.runtime.readmodel.index import RUNS_FILE, RunIndex
from stepstream.runtime.readmodel.pruning import Retention, keep_pruned
from stepstream.runtime.readmodel.views import RunSummary, UnreadableRuns
from stepstream.runtime.storage.rocks import RocksJournal
from stepstream.runtime.storage.syncing import Fsync
from stepstream.runtime.supervision import keep_serving
from stepstream.runtime.worker.memory import MemoryBudget
from stepstream.sdk.app import App
from stepstream.sdk.execution import Bodies
from stepstream.sdk.threads.threads import Threads

_OPEN_MAX = 5_000


class RunningEngine(NamedTuple):
    """The parts of a process that runs."""

    engine: EmbeddedEngine
    backbone: EmbeddedBackbone
    runs: RunIndex
    metrics: Metrics


@asynccontextmanager
async def running_engine(
    app: App | None, settings: Settings, watch: Callable[[HistoryEntry], None], retry_every: timedelta | None = None
) -> AsyncIterator[RunningEngine]:
    """Start journal, engine, worker and read model; on exit, running code reaches its next step before they stop.

    `retry_every` takes the place of every back-off.
    """
    with locked_folder(settings.data_dir):
        metrics = Metrics("engine", "worker", "gateway")
        journal = RocksJournal(settings.data_dir / "db", fsync=settings.fsync)
        clock = clock_of(journal)
        is_synced = settings.fsync is not Fsync.NEVER
        kept = _kept_runs(settings, journal)
        place = settings.data_dir / RUNS_FILE
        index = RunIndex(place, retention=kept, is_synced=is_synced, now_ms=clock.now_ms)
        backbone = EmbeddedBackbone(journal, clock, sync_read_model=index.sync)
        options = EngineOptions(
            live_cache=settings.live_cache,
            bodies=Bodies(threads=Threads(bodies_max=settings.body_threads), retry_every=retry_every),
            observer=metrics,
            worker_observer=metrics,
            watch=watch,
            memory=MemoryBudget(settings.memory_mib * MIB),
            unready=lambda: journal.failure,
            keep_logs=index.add_logs,
        )
        engine = EmbeddedEngine([app] if app else [], backbone, clock, index, options)
        disk = DiskGauges(settings.data_dir)
        metrics.ask(EmbeddedGauges(engine, backbone).read, disk.read, functools.partial(index_readings, index))
        metrics.ask(functools.partial(memory_readings, options.memory))
        metrics.ask(functools.partial(build_info, app, settings))
        await engine.start()
        metrics.ask(functools.partial(publisher_readings, engine.publisher))
        prune = functools.partial(keep_pruned, index.pruned)
        tasks = [
            asyncio.ensure_future(keep_serving("the measurement of the disk", disk.measure)),
            asyncio.ensure_future(keep_serving("the list of runs", prune)),
            asyncio.ensure_future(keep_serving("the journal", journal.keep_open)),
            asyncio.ensure_future(keep_serving("the syncs of the journal", journal.syncing.keep_synced)),
        ]
        try:
            yield RunningEngine(engine, backbone, index, metrics)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await engine.stop()
            index.close()
            journal.close()


def _kept_runs(settings: Settings, journal: RocksJournal) -> Retention:
    """Return which runs are kept: all of a replay unless a limit is set, as they ended at the times of old events."""
    unlimited = not settings.retention and was_replayed(journal)
    return replace(settings, retention=NEVER).kept_runs if unlimited else settings.kept_runs


class DevReporter(Protocol):
    """Shows the developer what happens in the process."""

    def know(self, run_id: str, function: str, started_at: int) -> None:
        """Note a run that an earlier process left open (Unix ms)."""

    def show(self, entry: HistoryEntry) -> None:
        """Show an entry of history."""

    def ready(self, port: int) -> None:
        """Report that requests are accepted on this port."""

    def notice(self, line: str) -> None:
        """Report what happens to an app of an SDK."""

    def unmatched(self, line: str) -> None:
        """Report an event that starts no function and resumes no wait."""

    def draining(self, bodies: int) -> None:
        """Report that the process stops once the bodies of this many steps end."""


def _hosting(app: App | None, parts: RunningEngine, reporter: DevReporter) -> Hosting:
    """Return what the process does for apps of SDKs, which it serves beside the Python app."""

    async def prepare(_: str) -> None:
        """Do nothing: a journal has all topics."""

    async def serves(name: str) -> bool:
        return name == own

    async def write_lines(entries: Sequence[StepLogged]) -> None:
        index.add_logs(entries)

    own, (engine, backbone, index, _) = app.name if app else "", parts
    return Hosting(prepare, backbone.append, serves, write_lines, engine.add, reporter.notice, is_alone=True, own=own)


async def serve(
    app: App | None, settings: Settings, reporter: DevReporter, poll: Polling, retry_every: timedelta | None = None
) -> None:
    """Serve until SIGINT or SIGTERM, then drain; `poll` says which apps of SDKs are registered by themselves."""
    listener = listen(settings.host, settings.port)
    workers_listener = listen_for_workers(settings)
    stop = stop_on_signals()
    watchers = [reporter.show]
    for run in _open_runs(settings):
        reporter.know(run.run_id, run.function, run.started_at)

    def watch(entry: HistoryEntry) -> None:
        for watcher in watchers:
            watcher(entry)

    # The connections outlast the engine, whose workers end their calls when they drain.
    async with (
        connections_of(settings) as connections,
        running_engine(app, settings, watch, retry_every) as parts,
    ):
        engine, backbone, index, metrics = parts
        apps = SdkApps(settings, connections, _hosting(app, parts, reporter), poll)
        apps.restore(await backbone.functions())
        await apps.listen(workers_listener)
        metrics.ask(functools.partial(connect_readings, connections.connect.calls))
        events = UnmatchedEventReporter(engine.send, index, engine.functions, backbone.is_idle, reporter.unmatched, app)
        watchers.append(events.watch)
        stop.bodies = lambda: _bodies(engine)
        reporting = asyncio.ensure_future(_report_draining(stop, engine, reporter))
        control = (engine.workers, lambda: engine.unready, engine.operator, engine)
        dead_letters = LatestDeadLetters(LocalDeadLetterLog(backbone))
        measured = (events.unmatched, metrics.readings, dead_letters)
        facade = EngineFacade(events.send, engine.signal, *control, *measured, apps.failed, engine.live)
        metrics.ask(facade.stream_stats.read)
        bodies = BodyBudget()
        api = engine_api(facade, index, metrics.text, settings, stop, bodies, engine.clock.now_ms)
        site = apps.site(api, facade, index, bodies, engine.publisher, is_python=app is not None)

        def ready(port: int) -> None:
            reporter.ready(port)
            apps.listening.set()

        async with (
            agents_served(api, settings, listener, bodies),
            probes(settings, lambda: True, lambda: engine.unready, metrics.text),
            polled(apps),
        ):
            await serve_http(site, listener, stop, ready, paths=REALTIME_PATHS)
        reporting.cancel()
        apps.drain()


def _open_runs(settings: Settings) -> list[RunSummary]:
    """Return the runs that earlier processes left open, the oldest first."""
    path = settings.data_dir / RUNS_FILE
    if not path.is_file():
        return []
    try:
        index = RunIndex(path, keep=True)
    except UnreadableRuns:
        return []  # Another process may hold the file; taking the folder's lock reports what is wrong.
    try:
        found = [run for status in OPEN_RUN_STATUSES for run in index.list(status=status, limit=_OPEN_MAX)]
    finally:
        index.close()
    return sorted(found, key=lambda run: run.run_id)


def _bodies(engine: EmbeddedEngine) -> int:
    return sum(load.bodies for load in engine.loads().values())


async def _report_draining(stop: asyncio.Event, engine: EmbeddedEngine, reporter: DevReporter) -> None:
    await stop.wait()
    if bodies := _bodies(engine):
        reporter.draining(bodies)
