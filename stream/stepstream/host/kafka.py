"""The processes of a cluster: `stepstream engine` with shards, read model and HTTP; `stepstream worker` with code."""

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from stepstream.api.http import Keys, make_api
from stepstream.api.probes import make_probes
from stepstream.contract.events import EventRecord
from stepstream.contract.limits import RUNS_ACTIVE_MAX
from stepstream.contract.names import workers_name
from stepstream.contract.topics import HISTORY, HISTORY_KEPT_MS
from stepstream.host.folder import held_folder
from stepstream.host.monitoring.gauges import BacklogGauges, EngineGauges, SourceGauges, WorkerSlot, index_readings
from stepstream.host.monitoring.versions import build_info
from stepstream.host.serving import end_process, listen, serve_api, stop_on_signals
from stepstream.host.settings import Settings, SettingsError, read_sources
from stepstream.host.sources.service import Append, SourceReaders, hosted, make_faust, tell_of_missing
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.kafka.backbone import KafkaBackbone
from stepstream.runtime.kafka.backlogs import Backlogs
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.fleet import KafkaCallers, ShardGroup, ShardGroupOptions
from stepstream.runtime.kafka.layout import config_differences, shards_of
from stepstream.runtime.kafka.origin import origin_of
from stepstream.runtime.kafka.registrar import FunctionRegistrar, client_of, instance_of
from stepstream.runtime.kafka.settings import KafkaSettings
from stepstream.runtime.kafka.worker_log import KafkaWorkerLog
from stepstream.runtime.metrics import Metrics
from stepstream.runtime.ports import LogError, WorkerLog
from stepstream.runtime.readmodel.index import RunIndex
from stepstream.runtime.worker.pool import PoolWorker
from stepstream.runtime.worker.worker import Worker
from stepstream.sdk.app import App
from stepstream.sdk.execution import Bodies
from stepstream.sdk.source import Source

logger = logging.getLogger(__name__)
_WORKERS_S_MAX = 3.0


class _EngineFacade:
    """What the HTTP API asks of this process."""

    def __init__(self, gauges: EngineGauges, callers: KafkaCallers, backlogs: Backlogs) -> None:
        self._gauges = gauges
        self._callers = callers
        self._backlogs = backlogs

    @property
    def unready(self) -> str:
        """Why this process is not ready; empty when it is."""
        return self._gauges.unready

    async def send(self, events: Sequence[EventRecord]) -> list[str]:
        """Send events."""
        return await self._callers.send(events)

    async def signal(self, name: str, data: Any = None) -> bool:
        """Send a signal."""
        return await self._callers.signal(name, data)

    async def cancel(self, run_id: str) -> bool:
        """Cancel a run."""
        return await self._callers.cancel(run_id)

    async def workers(self, names: Sequence[str]) -> dict[str, int]:
        """Return of each name how many workers of it are up; none when no broker tells it soon."""
        try:
            async with asyncio.timeout(_WORKERS_S_MAX):
                return await self._backlogs.members(names)
        except (LogError, TimeoutError):
            return {}


def _reading(
    cluster: Cluster, group: str, sources: Sequence[Source], append: Append, metrics: Metrics
) -> dict[str, Callable[[], Coroutine[Any, Any, None]]]:
    """Return the parts that read sources and measure how far they are, for which the metrics ask."""
    readers = SourceReaders(functools.partial(make_faust, cluster, group), sources, append, metrics)
    gauges = SourceGauges(readers, cluster)
    metrics.ask(gauges.read)
    return {"sources": readers.serve, "source_lags": gauges.measure}


async def serve_engine(settings: Settings, kafka: KafkaSettings, ready: Callable[[int, int], None]) -> None:
    """Serve shards and the HTTP API until SIGINT or SIGTERM; `ready` is told the port and the number of shards."""
    listener = listen(settings.host, settings.port)
    stop = stop_on_signals()
    cluster = Cluster(kafka)
    shards = await shards_of(cluster)
    for difference in await config_differences(cluster, [], shards):
        logger.warning("%s; `stepstream topics check` prints the command that mends it", difference)
    with held_folder(settings.data_dir):

        async def serve(api: Any) -> None:
            await serve_api(api, listener, stop, lambda port: ready(port, shards))

        await _serve_shards(settings, cluster, shards, serve)


async def _serve_shards(
    settings: Settings, cluster: Cluster, shards: int, serve: Callable[[Any], Awaitable[None]]
) -> None:
    """Have Faust run all parts of an engine while its API is served."""
    clock, metrics = SystemClock(), Metrics("engine", "sources")
    sources = read_sources(settings.sources) if settings.sources else []
    backbone = KafkaBackbone(cluster, clock, shards)
    callers = KafkaCallers(cluster, backbone, shards)
    origin = (await origin_of(cluster, 0)).hex()
    index = RunIndex(settings.data_dir / "runs.sqlite", kept_ms=HISTORY_KEPT_MS, origin=origin)
    options = ShardGroupOptions(
        shards,
        settings.data_dir,
        answer=callers.pass_on,
        observer=metrics,
        instance=settings.instance,
        standby=settings.standby,
    )
    group = ShardGroup(cluster, clock, options)

    gauges = EngineGauges(group, backbone, shards)
    backlogs = Backlogs(cluster, backbone)
    backlog_gauges = BacklogGauges(group, backlogs)
    metrics.ask(gauges.read)
    metrics.ask(backlog_gauges.read)
    metrics.ask(functools.partial(index_readings, index))
    metrics.ask(functools.partial(build_info, None, settings))

    async def project() -> None:
        async for records in backbone.history(functools.partial(index.position, HISTORY)):
            index.fold(records)

    try:
        await tell_of_missing(cluster, sources)
        parts = {"shards": group.serve, "answers": callers.serve, "read_model": project}
        parts |= {"lags": gauges.measure, "backlogs": backlog_gauges.measure}
        parts |= _reading(cluster, "sources", sources, backbone.append, metrics)
        async with hosted(make_faust(cluster, "sources"), **parts):
            door = _EngineFacade(gauges, callers, backlogs)
            api = make_api(door, index, metrics.text, keys=Keys(settings.event_key, settings.api_key))
            await serve(api)
    finally:
        index.close()
        await backbone.close()


@asynccontextmanager
async def _probes(seat: WorkerSlot, metrics: Metrics, settings: Settings) -> AsyncIterator[int | None]:
    """Answer probes while the block runs, on the port that is yielded; None when the settings name none."""
    if settings.metrics_port is None:
        yield None
        return
    listener = listen(settings.metrics_host, settings.metrics_port, "--metrics-port")
    api = make_probes(lambda: seat.alive, lambda: seat.unready, metrics.text, api_key=settings.api_key)
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    over = asyncio.Event()
    serving = asyncio.ensure_future(serve_api(api, listener, over, port.set_result))
    try:
        yield await port
    finally:
        over.set()
        await serving


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a worker process does: the runs of its app, or the steps of one of its queues, so many at once."""

    app: App
    queue: str = ""
    concurrency: int = RUNS_ACTIVE_MAX

    def __post_init__(self) -> None:
        if self.queue and self.queue not in self.app.queues:
            known = ", ".join(self.app.queues) or "none"
            raise SettingsError(f"app {self.app.name!r} has no queue {self.queue!r} (it has {known})")

    @property
    def name(self) -> str:
        """The name that all workers of the same post share."""
        return workers_name(self.app.name, self.queue)

    def worker(self, log: WorkerLog, bodies: Bodies, settings: Settings, metrics: Metrics) -> Worker | PoolWorker:
        """Return a worker that does it."""
        clock, most = SystemClock(), self.concurrency
        if self.queue:
            return PoolWorker(log, clock, self.app, self.queue, bodies=bodies, active_max=most, observer=metrics)
        live_cache = settings.live_cache
        return Worker(
            log, clock, self.app, bodies=bodies, live_cache=live_cache, runs_active_max=most, observer=metrics
        )


async def _drain(seat: WorkerSlot, settings: Settings) -> bool:
    """Let what is at work come to rest, for as long as the settings say; return whether it has."""
    try:
        logger.info("stopping; steps at work have %g s to end", settings.drain_s)
        await seat.drain(settings.drain_s)
    except TimeoutError:
        logger.warning("a step did not end in %g s; another worker begins it again", settings.drain_s)
        return False
    logger.info("all has come to rest")
    return True


async def serve_worker(
    post: WorkerSpec, settings: Settings, kafka: KafkaSettings, ready: Callable[[int, int | None], None]
) -> None:
    """Run the code of an app until SIGINT or SIGTERM, then let what is at work come to rest, for a while.

    `ready` is told the number of shards, and the port for probes if there is one.
    """
    app, stop, cluster = post.app, stop_on_signals(), Cluster(kafka)
    # A queue that the functions name must be there before the engine is told of it.
    shards = await shards_of(cluster, [app.name, *(workers_name(app.name, queue) for queue in app.queues)])
    backbone = KafkaBackbone(cluster, SystemClock(), shards)
    callers = KafkaCallers(cluster, backbone, shards)
    app.connect(callers)
    bodies, metrics, seat = Bodies(), Metrics("worker", "sources"), WorkerSlot(post.name, backbone)
    metrics.ask(seat.read)
    metrics.ask(functools.partial(build_info, app, settings, post.name))

    async def work() -> None:
        if seat.draining:
            await asyncio.get_running_loop().create_future()
        log = KafkaWorkerLog(
            cluster, post.name, shards, instance=instance_of(app, settings.instance), client=client_of(app)
        )
        worker = post.worker(log, bodies, settings, metrics)
        seat.take(worker, log)
        await worker.serve()

    parts = {"worker": work, "answers": callers.serve, "lags": seat.measure}
    announcer = FunctionRegistrar(cluster, app, backbone.append, lambda: not seat.unready)
    # Those who hold the runs also announce the functions and read the sources, and not each queue once more.
    sources = [] if post.queue else app.sources
    if not post.queue:
        parts["functions"] = announcer.serve
    try:
        async with _probes(seat, metrics, settings) as port:
            # What is wrong with the functions is told before anything is begun.
            await announcer.check(await backbone.functions())
            await tell_of_missing(cluster, sources)
            parts |= _reading(cluster, f"sources-{app.name}", sources, backbone.append, metrics)
            async with hosted(make_faust(cluster, f"sources-{app.name}"), **parts):
                if post.queue or await announcer.until_registered(stop):
                    ready(shards, port)
                await stop.wait()
                rested = await _drain(seat, settings)
    finally:
        app.connect(None)
        bodies.threads.close()
        await backbone.close()
    if not rested:
        end_process()
