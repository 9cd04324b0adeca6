"""The whole of stepstream in one process, durable, with its HTTP API: what `stepstream dev` runs."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from stepstream.api.http import Keys, make_api
from stepstream.contract.history import HistoryEntry
from stepstream.host.gauges import embedded_readings
from stepstream.host.serving import listen, serve_api, stop_on_signals
from stepstream.host.settings import Settings, make_data_dir
from stepstream.host.versions import build_info
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.embedded import EmbeddedBackbone
from stepstream.runtime.engine import EmbeddedEngine
from stepstream.runtime.index import RunIndex
from stepstream.runtime.metrics import Metrics
from stepstream.runtime.rocks import RocksJournal
from stepstream.sdk.app import App


@asynccontextmanager
async def running_engine(
    app: App, settings: Settings, watch: Callable[[HistoryEntry], None]
) -> AsyncIterator[tuple[EmbeddedEngine, RunIndex, Metrics]]:
    """Bring up journal, engine, worker and read model; on the way out the code at work comes to rest first."""
    make_data_dir(settings)
    metrics = Metrics("engine", "worker")
    journal = RocksJournal(settings.data_dir / "db", durable=settings.durable)
    clock = SystemClock()
    index = RunIndex(settings.data_dir / "runs.sqlite")
    backbone = EmbeddedBackbone(journal, clock)
    engine = EmbeddedEngine(
        [app],
        backbone,
        clock,
        index,
        live_cache=settings.live_cache,
        observer=metrics,
        worker_observer=metrics,
        watch=watch,
    )
    metrics.ask(functools.partial(embedded_readings, engine, backbone))
    metrics.ask(functools.partial(build_info, app, settings))
    await engine.start()
    try:
        yield engine, index, metrics
    finally:
        await engine.stop()
        index.close()
        journal.close()


async def serve(
    app: App,
    settings: Settings,
    watch: Callable[[HistoryEntry], None],
    ready: Callable[[int], None],
    draining: Callable[[int], None],
) -> None:
    """Serve until SIGINT or SIGTERM, then drain.

    `ready` is told the port once requests are taken, `draining` how many steps are at work when a signal comes.
    """
    listener = listen(settings.host, settings.port)
    stop = stop_on_signals()
    async with running_engine(app, settings, watch) as (engine, index, metrics):
        telling = asyncio.ensure_future(_tell_draining(stop, engine, draining))
        api = make_api(engine, index, metrics.text, keys=Keys(settings.event_key, settings.api_key))
        await serve_api(api, listener, stop, ready)
        telling.cancel()


async def _tell_draining(stop: asyncio.Event, engine: EmbeddedEngine, draining: Callable[[int], None]) -> None:
    await stop.wait()
    if bodies := sum(load.bodies for load in engine.loads().values()):
        draining(bodies)
