"""The whole of stepstream in one process, durable, with its HTTP API: what `stepstream dev` runs."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Protocol

from stepstream.api.http import Keys, make_api
from stepstream.contract.history import HistoryEntry
from stepstream.host.folder import held_folder
from stepstream.host.monitoring.gauges import embedded_readings, index_readings
from stepstream.host.monitoring.versions import build_info
from stepstream.host.serving import listen, serve_api, stop_on_signals
from stepstream.host.settings import Settings
from stepstream.host.unmatched import UnmatchedEventReporter
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.embedded.log import EmbeddedBackbone
from stepstream.runtime.embedded.process import EmbeddedEngine, EngineOptions
from stepstream.runtime.metrics import Metrics
from stepstream.runtime.readmodel.index import RunIndex, RunSummary, UnreadableRuns
from stepstream.runtime.storage.rocks import RocksJournal
from stepstream.sdk.app import App

_OPEN_MAX = 5_000


@asynccontextmanager
async def running_engine(
    app: App, settings: Settings, watch: Callable[[HistoryEntry], None]
) -> AsyncIterator[tuple[EmbeddedEngine, EmbeddedBackbone, RunIndex, Metrics]]:
    """Bring up journal, engine, worker and read model; on the way out the code at work comes to rest first."""
    with held_folder(settings.data_dir):
        metrics = Metrics("engine", "worker")
        journal = RocksJournal(settings.data_dir / "db", durable=settings.durable)
        clock = SystemClock()
        index = RunIndex(settings.data_dir / "runs.sqlite")
        backbone = EmbeddedBackbone(journal, clock)
        options = EngineOptions(live_cache=settings.live_cache, observer=metrics, worker_observer=metrics, watch=watch)
        engine = EmbeddedEngine([app], backbone, clock, index, options)
        metrics.ask(functools.partial(embedded_readings, engine, backbone))
        metrics.ask(functools.partial(index_readings, index))
        metrics.ask(functools.partial(build_info, app, settings))
        await engine.start()
        try:
            yield engine, backbone, index, metrics
        finally:
            await engine.stop()
            index.close()
            journal.close()


class DevReporter(Protocol):
    """Who sees what goes on in the process."""

    def know(self, run_id: str, function: str, started_at: int) -> None:
        """A run is open from before (Unix ms)."""

    def show(self, entry: HistoryEntry) -> None:
        """See an entry of history."""

    def ready(self, port: int) -> None:
        """Requests are taken on this port."""

    def unmatched(self, line: str) -> None:
        """An event starts no function and wakes no wait."""

    def draining(self, bodies: int) -> None:
        """The end was asked for while so many steps are at work."""


async def serve(app: App, settings: Settings, audience: DevReporter) -> None:
    """Serve until SIGINT or SIGTERM, then drain."""
    listener = listen(settings.host, settings.port)
    stop = stop_on_signals()
    watchers = [audience.show]
    for run in _open_runs(settings):
        audience.know(run.run_id, run.function, run.started_at)

    def watch(entry: HistoryEntry) -> None:
        for watcher in watchers:
            watcher(entry)

    async with running_engine(app, settings, watch) as (engine, backbone, index, metrics):
        door = UnmatchedEventReporter(engine, index, app, backbone.is_idle, audience.unmatched)
        watchers.append(door.watch)
        telling = asyncio.ensure_future(_tell_draining(stop, engine, audience))
        api = make_api(door, index, metrics.text, keys=Keys(settings.event_key, settings.api_key))
        await serve_api(api, listener, stop, audience.ready)
        telling.cancel()


def _open_runs(settings: Settings) -> list[RunSummary]:
    """Return the runs that a process before this one left open, the oldest first."""
    path = settings.data_dir / "runs.sqlite"
    if not path.is_file():
        return []
    try:
        index = RunIndex(path, keep=True)
    except UnreadableRuns:
        return []  # Another process may have it; whoever gets the folder says what is wrong with it.
    try:
        found = [run for status in ("scheduled", "running") for run in index.list(status=status, limit=_OPEN_MAX)]
    finally:
        index.close()
    return sorted(found, key=lambda run: run.run_id)


async def _tell_draining(stop: asyncio.Event, engine: EmbeddedEngine, audience: DevReporter) -> None:
    await stop.wait()
    if bodies := sum(load.bodies for load in engine.loads().values()):
        audience.draining(bodies)
