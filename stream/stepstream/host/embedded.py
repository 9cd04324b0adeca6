"""The whole of stepstream in one process, durable, with its HTTP API: what `stepstream dev` runs."""

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import uvicorn

from stepstream.api.http import Keys, make_api
from stepstream.contract.history import HistoryEntry
from stepstream.host.settings import Settings, SettingsError
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
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    metrics = Metrics()

    def watch_all(entry: HistoryEntry) -> None:
        metrics.watch(entry)
        watch(entry)

    journal = RocksJournal(settings.data_dir / "db", durable=settings.durable)
    clock = SystemClock()
    index = RunIndex(settings.data_dir / "runs.sqlite")
    engine = EmbeddedEngine(
        [app],
        EmbeddedBackbone(journal, clock),
        clock,
        index,
        live_cache=settings.live_cache,
        observer=metrics,
        watch=watch_all,
    )
    await engine.start()
    try:
        yield engine, index, metrics
    finally:
        await engine.stop()
        index.close()
        journal.close()


class _Server(uvicorn.Server):
    """A server that leaves the signals to its host."""

    @contextlib.contextmanager
    def capture_signals(self):  # type: ignore[no-untyped-def]  # The type of the parent's is not exported.
        """Capture none."""
        yield


def _listen(settings: Settings) -> socket.socket:
    try:
        return socket.create_server((settings.host, settings.port))
    except OSError as error:
        message = f"port {settings.port} on {settings.host} cannot be bound ({error.strerror}); give another by --port"
        raise SettingsError(message) from None


async def serve(
    app: App, settings: Settings, watch: Callable[[HistoryEntry], None], ready: Callable[[int], None]
) -> None:
    """Serve until SIGINT or SIGTERM, then drain; `ready` is told the port once requests are taken."""
    listener = _listen(settings)
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with running_engine(app, settings, watch) as (engine, index, metrics):
        api = make_api(engine, index, metrics.text, keys=Keys(settings.event_key, settings.api_key))
        config = uvicorn.Config(api, host=settings.host, port=settings.port, log_level="warning", lifespan="off")
        server = _Server(config)
        serving = asyncio.ensure_future(server.serve(sockets=[listener]))
        ready(listener.getsockname()[1])
        stopping = asyncio.ensure_future(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        server.should_exit = True
        await serving
