"""The process of `stepstream worker`: the code of an app on Kafka."""

import asyncio
import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from stepstream.contract.limits import MIB, RUNS_ACTIVE_MAX
from stepstream.contract.text.names import workers_name
from stepstream.contract.topics import CHANGELOG, ENGINES, FUNCTIONS, HISTORY, INBOX, commands_topic
from stepstream.host.broker_contact import BrokerContact
from stepstream.host.http_server import probes
from stepstream.host.monitoring.gauges import WorkerGauges, memory_readings, publisher_readings
from stepstream.host.monitoring.versions import build_info
from stepstream.host.serving import end_process, stop_on_signals
from stepstream.host.settings import Settings, SettingsError
from stepstream.host.source_parts import source_parts
from stepstream.host.sources.faust_app import hosted, make_faust
from stepstream.host.sources.readers import warn_of_missing
from stepstream.host.worker_slot import WorkerSlot
from stepstream.runtime.clocks import SystemClock
from stepstream.runtime.kafka.backbone import KafkaBackbone
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.replies import KafkaCallers
from stepstream.runtime.kafka.topics.layout import config_warnings, layout_of
from stepstream.runtime.kafka.topics.registrar import FunctionRegistrar, client_of, instance_of
from stepstream.runtime.kafka.topics.topic_watch import TopicWatch
from stepstream.runtime.kafka.workers.group_lease import MemberOptions
from stepstream.runtime.kafka.workers.worker_log import KafkaWorkerLog
from stepstream.runtime.metrics import Metrics
from stepstream.runtime.ports import WorkerLog
from stepstream.runtime.worker.memory import MemoryBudget
from stepstream.runtime.worker.options import WorkerOptions
from stepstream.runtime.worker.pool import PoolWorker
from stepstream.runtime.worker.publisher import LivePublisher
from stepstream.runtime.worker.step_logs import StepLogs, append_logs
from stepstream.runtime.worker.worker import Worker
from stepstream.sdk.app import App
from stepstream.sdk.execution import Bodies
from stepstream.sdk.step_logs import catching
from stepstream.sdk.threads.threads import Threads

logger = logging.getLogger(__name__)
# A worker neither reads nor writes them, except for the number of shards in the changelog.
_UNUSED_TOPICS = (CHANGELOG, HISTORY, ENGINES)


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """What a worker process runs: the runs of an app, or the steps of one of its queues; `concurrency` at once."""

    app: App
    queue: str = ""
    concurrency: int = RUNS_ACTIVE_MAX

    def __post_init__(self) -> None:
        if self.queue and self.queue not in self.app.queues:
            known = ", ".join(self.app.queues) or "none"
            raise SettingsError(f"app {self.app.name!r} has no queue {self.queue!r} (its queues: {known})")

    @property
    def name(self) -> str:
        """The name that all workers of the same app and queue share."""
        return workers_name(self.app.name, self.queue)

    @property
    def all_names(self) -> list[str]:
        """The names of all workers of the app: of its runs, and of each queue."""
        return [workers_name(self.app.name, queue) for queue in ("", *self.app.queues)]

    def make(self, log: WorkerLog, options: WorkerOptions) -> Worker | PoolWorker:
        """Return a worker that does this."""
        options = replace(options, runs_active_max=self.concurrency)
        return PoolWorker(log, self.app, self.queue, options) if self.queue else Worker(log, self.app, options)


async def _drain(slot: WorkerSlot, settings: Settings) -> bool:
    """Let running steps finish for as long as the settings allow; return whether all of them did."""
    try:
        logger.info("stopping; running steps have %g s to finish", settings.drain_s)
        await slot.drain(settings.drain_s)
    except TimeoutError:
        logger.warning("a step did not finish in %g s; another worker runs it again", settings.drain_s)
        return False
    logger.info("all running steps have finished")
    return True


def _parts(
    spec: WorkerSpec, cluster: Cluster, shards: int, backbone: KafkaBackbone
) -> tuple[WorkerSlot, FunctionRegistrar, TopicWatch]:
    """Return the parts that depend on one another.

    A worker registers its functions once its topics exist and it has joined its group; then it is ready, so an event
    that is sent from then on starts the runs of its app. The workers of queues register nothing.
    """
    registers = not spec.queue
    slot = WorkerSlot(spec.name, BrokerContact(), lambda: watch.unready, lambda: registrar.unready if registers else "")
    registrar = FunctionRegistrar(cluster, spec.app, backbone.append, lambda: slot.joined)
    topics = [commands_topic(spec.name), INBOX, FUNCTIONS]
    watch = TopicWatch(cluster, topics, shards, [slot.check, registrar.watch], [spec.name])
    return slot, registrar, watch


async def _check_topics(spec: WorkerSpec, cluster: Cluster) -> int:
    """Return the number of shards; log which topics differ from what they should be."""
    # The topic of a queue must exist before the engine learns of functions that name the queue.
    layout = await layout_of(cluster, spec.all_names, engine=False)
    for warning in config_warnings(cluster.settings, layout.configs, _UNUSED_TOPICS):
        logger.warning("%s", warning)
    return layout.shards


def _bodies(settings: Settings, backbone: KafkaBackbone, shards: int, metrics: Metrics) -> Bodies:
    publisher = LivePublisher(backbone.live.publish, shards)
    metrics.ask(functools.partial(publisher_readings, publisher))
    return Bodies(threads=Threads(bodies_max=settings.body_threads), publisher=publisher)


def _options(
    settings: Settings, bodies: Bodies, memory: MemoryBudget, metrics: Metrics, backbone: KafkaBackbone
) -> WorkerOptions:
    logs = StepLogs(functools.partial(append_logs, backbone.append), SystemClock().now_ms)
    return WorkerOptions(bodies=bodies, observer=metrics, live_cache=settings.live_cache, memory=memory, logs=logs)


async def serve_worker(
    spec: WorkerSpec, settings: Settings, kafka: KafkaSettings, ready: Callable[[int, int | None], None]
) -> None:
    """Run the code of an app until SIGINT or SIGTERM, then let running steps finish for a limited time.

    `ready` is given the number of shards and the port of the probes, if there is one.
    """
    app, stop, cluster = spec.app, stop_on_signals(), Cluster(kafka)
    shards = await _check_topics(spec, cluster)
    backbone = KafkaBackbone(cluster, SystemClock(), shards)
    callers = KafkaCallers(cluster, backbone, shards)
    app.connect(callers)
    slot, registrar, watch = _parts(spec, cluster, shards, backbone)
    metrics, memory = Metrics("worker", "sources"), MemoryBudget(settings.memory_mib * MIB)
    bodies = _bodies(settings, backbone, shards, metrics)
    gauges, stop.bodies = WorkerGauges(slot, backbone), lambda: slot.load.bodies if slot.load else 0
    version = functools.partial(build_info, app, settings, spec.name)
    metrics.ask(gauges.read, functools.partial(memory_readings, memory), version)
    options = _options(settings, bodies, memory, metrics, backbone)

    async def work() -> None:
        if slot.draining:
            await asyncio.get_running_loop().create_future()
        member = MemberOptions(instance=instance_of(app, settings.instance), client=client_of(app))
        log = KafkaWorkerLog(cluster, spec.name, shards, member)
        slot.take(worker := spec.make(log, options), log)
        with catching():
            await worker.serve()

    drained, parts = True, {"worker": work, "answers": callers.serve, "lags": gauges.measure, "topics": watch.serve}
    # Only the workers of runs register functions and read sources; workers of queues would only repeat both.
    sources = [] if spec.queue else app.sources
    parts |= {} if spec.queue else {"functions": registrar.serve}
    try:
        async with probes(settings, lambda: slot.alive, lambda: slot.unready, metrics.text) as port:
            # Invalid functions are reported before any part starts.
            await registrar.check(await backbone.functions())
            await warn_of_missing(cluster, sources)
            parts |= source_parts(cluster, f"sources-{app.name}", sources, backbone.append, metrics)
            async with hosted(make_faust(cluster, f"sources-{app.name}"), **parts):
                if spec.queue or await registrar.until_registered(stop):
                    ready(shards, port)
                await stop.wait()
                drained = await _drain(slot, settings)
    finally:
        app.connect(None)
        bodies.threads.close()
        await backbone.close()
    if not drained:
        end_process()
