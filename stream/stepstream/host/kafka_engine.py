"""The process of `stepstream engine`: shards, read model and HTTP API on Kafka."""

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace

from stepstream.api.bodies import BodyBudget
from stepstream.api.facade import EngineFacade
from stepstream.contract.topics import DEAD_LETTERS, REPLIES
from stepstream.host.agents import agents_served
from stepstream.host.deadletters.latest import ClusterDeadLetterLog, LatestDeadLetters
from stepstream.host.folder import locked_folder
from stepstream.host.http_server import engine_api, probes, serve_http
from stepstream.host.monitoring.database import DatabaseGauge
from stepstream.host.monitoring.disk import DiskGauges
from stepstream.host.monitoring.gauges import BacklogGauges, EngineGauges, Measured, index_readings
from stepstream.host.monitoring.versions import build_info
from stepstream.host.read_models import open_read_model, read_model_parts
from stepstream.host.serving import listen, stop_on_signals
from stepstream.host.settings import Settings, read_sources
from stepstream.host.source_parts import source_parts
from stepstream.host.sources.faust_app import hosted, make_faust
from stepstream.host.sources.readers import warn_of_missing
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.kafka.backbone import KafkaBackbone
from stepstream.runtime.kafka.backlogs import Backlogs
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.fleet import ShardGroup, ShardGroupOptions
from stepstream.runtime.kafka.replies import KafkaCallers
from stepstream.runtime.kafka.shards.shard_log import SHARD_TOPICS
from stepstream.runtime.kafka.topics.layout import Layout, config_warnings, layout_of
from stepstream.runtime.kafka.topics.topic_watch import TopicWatch
from stepstream.runtime.metrics import Metrics, Reading
from stepstream.runtime.overview import RunningWorker
from stepstream.runtime.ports import LogError
from stepstream.runtime.readmodel.index import RunIndex

logger = logging.getLogger(__name__)
_WORKERS_S_MAX = 3.0


async def _running_workers(backlogs: Backlogs, names: Sequence[str]) -> dict[str, list[RunningWorker]]:
    """Return the running workers, by name; empty when no broker answers soon."""
    try:
        async with asyncio.timeout(_WORKERS_S_MAX):
            return await backlogs.members(names)
    except (LogError, TimeoutError):
        return {}


def _facade(
    callers: KafkaCallers,
    gauges: EngineGauges,
    backlogs: Backlogs,
    group: ShardGroup,
    readings: Callable[[], Iterable[Reading]],
    log: ClusterDeadLetterLog,
) -> EngineFacade:
    workers = functools.partial(_running_workers, backlogs)
    control = (callers.send, callers.signal, workers, lambda: gauges.unready, callers)
    return EngineFacade(*control, group, readings=readings, dead_letters=LatestDeadLetters(log))


async def serve_engine(settings: Settings, kafka: KafkaSettings, ready: Callable[[int, int], None]) -> None:
    """Serve shards and the HTTP API until SIGINT or SIGTERM; `ready` is given the port and the number of shards."""
    listener = listen(settings.host, settings.port)
    stop = stop_on_signals()
    cluster = Cluster(kafka)
    layout = await layout_of(cluster, engine=True)
    for warning in config_warnings(kafka, layout.configs):
        logger.warning("%s", warning)
    with locked_folder(settings.data_dir):

        async def serve(facade: EngineFacade, index: RunIndex, metrics: Metrics) -> None:
            bodies = BodyBudget()
            api = engine_api(facade, index, metrics.text, settings, stop, bodies)
            async with agents_served(api, settings, listener, bodies):
                await serve_http(api, listener, stop, lambda port: ready(port, layout.shards))

        await _serve_shards(settings, cluster, layout, serve)


async def _serve_shards(
    settings: Settings,
    cluster: Cluster,
    layout: Layout,
    serve: Callable[[EngineFacade, RunIndex, Metrics], Awaitable[None]],
) -> None:
    """Run all parts of an engine in Faust while its API is served."""
    clock, metrics, shards = SystemClock(), Metrics("engine", "sources"), layout.shards
    sources = read_sources(settings.sources) if settings.sources else []
    backbone = KafkaBackbone(cluster, clock, shards)
    callers = KafkaCallers(cluster, backbone, shards)
    index = open_read_model(settings, layout.origin.hex())
    options = ShardGroupOptions(
        shards,
        settings.data_dir,
        answer=callers.pass_on,
        observer=metrics,
        instance=settings.instance,
        standby=settings.standby,
        failover_s=settings.failover_s,
    )
    group = ShardGroup(cluster, clock, options)

    watch = TopicWatch(cluster, [*SHARD_TOPICS, REPLIES, DEAD_LETTERS], shards, [group.check])
    gauges = EngineGauges(group, backbone, shards, lambda: watch.unready)
    backlogs = Backlogs(cluster, backbone)
    measured: dict[str, Measured] = {"lags": gauges, "backlogs": BacklogGauges(group, backlogs)}
    measured["disk"] = DiskGauges(settings.data_dir)
    if index.is_shared:
        measured["database"] = DatabaseGauge(index)
    for each in measured.values():
        metrics.ask(each.read)
    metrics.ask(functools.partial(index_readings, index), functools.partial(build_info, None, settings))

    try:
        await warn_of_missing(cluster, sources)
        owned = (lambda: group.assigned) if index.is_shared else None
        parts = {"shards": group.serve, "answers": callers.serve, **read_model_parts(backbone, index, owned)}
        parts |= {name: each.measure for name, each in measured.items()}
        parts |= {"topics": watch.serve}
        parts |= source_parts(cluster, "sources", sources, backbone.append, metrics)
        async with hosted(make_faust(cluster, "sources"), **parts):
            facade = _facade(callers, gauges, backlogs, group, metrics.readings, ClusterDeadLetterLog(cluster, sources))
            facade = replace(facade, live=backbone.live)
            metrics.ask(facade.stream_stats.read)
            async with probes(settings, lambda: True, lambda: gauges.unready, metrics.text):
                await serve(facade, index, metrics)
    finally:
        index.close()
        await backbone.close()
