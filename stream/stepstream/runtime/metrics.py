"""Prometheus metrics, updated once per batch and never once per record."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from stepstream.contract.limits import FUNCTIONS_LABELLED_MAX
from stepstream.contract.topics import EVENTS, FUNCTIONS, INBOX
from stepstream.runtime.dead_letters import DEAD_LETTER_KINDS, DeadLetterKind
from stepstream.runtime.hot_events import HotEvents
from stepstream.runtime.shard.loop import BatchStats

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_LONG_S = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 300, 1_800, 3_600, 21_600, 86_400, 604_800)
_STEP_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60, 300, 1_800, 3_600)
_SHORT_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60)
_RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500)

Component = Literal["engine", "worker", "gateway", "sources", "process"]
Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric as in docs/metrics.md; `name` lacks the suffix `_total` of counters."""

    component: Component
    kind: Kind
    name: str
    labels: tuple[str, ...]
    help: str
    buckets: tuple[float, ...] = ()


METRICS = (
    Metric("engine", "counter", "runs_started", ("function",), "Runs that were accepted"),
    Metric("engine", "counter", "runs_ended", ("function", "status"), "Runs that have ended"),
    Metric(
        "engine",
        "counter",
        "runs_cancelled",
        ("function", "cause"),
        "Runs that were cancelled, by a request, an event of cancel_on, a timeout or a run that replaced them",
    ),
    Metric("engine", "counter", "runs_refused", ("function", "reason"), "Runs that a limit has refused"),
    Metric("engine", "gauge", "runs_open", ("function",), "Runs that have not ended"),
    Metric(
        "engine", "histogram", "run_duration_seconds", ("function",), "Time from the start of a run to its end", _LONG_S
    ),
    Metric("engine", "counter", "gate_waits", ("gate",), "Runs that had to wait for a limit of their function"),
    Metric("engine", "gauge", "gate_permits_in_use", ("gate",), "Runs that hold a permit of a limit"),
    Metric("engine", "gauge", "gate_runs_waiting", ("gate",), "Runs that wait for a limit"),
    Metric("engine", "gauge", "gate_oldest_wait_seconds", ("gate",), "Age of the oldest wait for a limit"),
    Metric(
        "engine", "histogram", "queue_duration_seconds", ("function",), "Time that a run waited for its limits", _LONG_S
    ),
    Metric("engine", "counter", "steps_ended", ("function", "kind", "outcome"), "Steps that have their result"),
    Metric(
        "engine",
        "histogram",
        "step_duration_seconds",
        ("function",),
        "Time from the start of the last attempt to its commit",
        _STEP_S,
    ),
    Metric("engine", "counter", "step_retries", ("function",), "Failed attempts of steps that are retried"),
    Metric("engine", "counter", "run_retries", ("function",), "Failures of the code between steps that are retried"),
    Metric("engine", "counter", "run_warnings", ("function",), "Runs whose code and results disagree"),
    Metric("engine", "counter", "chains_refused", ("function",), "Steps refused at the end of a chain of runs"),
    Metric("engine", "gauge", "steps_open", ("kind",), "Steps without a result"),
    Metric(
        "engine",
        "histogram",
        "match_latency_seconds",
        (),
        "Time from an event's arrival to the resumption of a run",
        _SHORT_S,
    ),
    Metric("engine", "histogram", "timer_late_seconds", ("kind",), "Delay with which timers fired", _SHORT_S),
    Metric("engine", "counter", "expression_errors", ("place",), "Expressions that failed on an event"),
    Metric("engine", "counter", "duplicate_starts", (), "Starts refused because of a repeated event id"),
    Metric(
        "engine",
        "counter",
        "stale_reports",
        (),
        "Reports dropped for runs that have moved or ended, or that a bulk operation has counted",
    ),
    Metric("engine", "counter", "records", ("shard",), "Records read"),
    Metric("engine", "histogram", "batch_records", ("shard",), "Records in a batch", _RECORDS),
    Metric("engine", "histogram", "batch_duration_seconds", ("shard",), "Time for a batch, with its commit", _SHORT_S),
    Metric("engine", "histogram", "commit_duration_seconds", ("shard",), "Time to commit a batch", _SHORT_S),
    Metric("engine", "gauge", "input_lag_records", ("shard", "topic"), "Records that are not processed"),
    Metric("engine", "gauge", "input_oldest_seconds", ("shard",), "Age of the oldest record that is not processed"),
    Metric(
        "engine",
        "gauge",
        "hot_event_share",
        ("shard", "event"),
        "Share of an event name in a shard's inputs",
    ),
    Metric("engine", "counter", "history_skipped", (), "History records that could not be read"),
    Metric("engine", "gauge", "shard_serving", ("shard",), "1 when the shard serves, 0 while it recovers"),
    Metric("engine", "counter", "shard_recoveries", ("shard",), "Recoveries of the shard in this process"),
    Metric("engine", "counter", "shard_takeovers", ("shard",), "Takeovers of the shard from a silent engine"),
    Metric("engine", "gauge", "recovery_read_rows", ("shard",), "Changelog rows read in the latest recovery"),
    Metric("engine", "gauge", "recovery_left_rows", ("shard",), "Changelog offsets still to read"),
    Metric("engine", "gauge", "standby_lag_rows", ("shard",), "Changelog offsets that a warm copy has not read"),
    Metric("engine", "gauge", "commands_lag_records", ("app", "partition"), "Commands that are not acknowledged"),
    Metric("engine", "gauge", "workers", ("app",), "Running workers of an app or a queue"),
    Metric("engine", "gauge", "disk_used_bytes", ("store",), "Size of the files in the data directory"),
    Metric("engine", "gauge", "disk_free_bytes", (), "Free space on the disk of the data directory"),
    Metric("engine", "gauge", "disk_size_bytes", (), "Size of the disk of the data directory"),
    Metric("engine", "gauge", "live_streams_open", (), "Live streams that clients read"),
    Metric("engine", "counter", "live_streams_ended", ("reason",), "Live streams that have ended"),
    Metric("engine", "counter", "live_streams_refused", (), "Live streams beyond the limit of the engine"),
    Metric("engine", "counter", "live_messages_sent", (), "Live messages sent to clients"),
    Metric("engine", "gauge", "read_model_bytes", (), "Size of the tables of the list of runs in PostgreSQL"),
    Metric("worker", "gauge", "worker_slots", ("app",), "Runs that may run code at the same time"),
    Metric("worker", "gauge", "worker_slots_in_use", ("app",), "Runs that run code"),
    Metric("worker", "gauge", "worker_queue_runs", ("app",), "Runs that wait for a slot"),
    Metric("worker", "gauge", "worker_cached_runs", ("app",), "Runs held in memory"),
    Metric("worker", "gauge", "worker_body_threads", ("app",), "Threads for plain step bodies"),
    Metric("worker", "gauge", "worker_body_threads_in_use", ("app",), "Threads that run plain step bodies"),
    Metric("worker", "gauge", "worker_memory_bytes", (), "Results and reports held in memory"),
    Metric("worker", "gauge", "worker_memory_limit_bytes", (), "Results and reports that may be held in memory"),
    Metric("worker", "counter", "live_messages_published", (), "Live messages that are in the log"),
    Metric("worker", "counter", "live_messages_failed", (), "Live messages that could not be written to the log"),
    Metric("worker", "counter", "worker_loads", ("app",), "Runs loaded with all their memos"),
    Metric(
        "worker",
        "histogram",
        "worker_step_duration_seconds",
        ("function",),
        "Time for the body of a step, per attempt",
        _STEP_S,
    ),
    Metric("worker", "counter", "worker_step_attempts", ("function", "outcome"), "Attempts of the bodies of steps"),
    Metric("worker", "gauge", "worker_lag_records", ("app", "partition"), "Commands that no worker has taken"),
    Metric("gateway", "gauge", "connect_connections", ("app", "status"), "Connections of workers"),
    Metric("gateway", "gauge", "connect_calls", ("app", "phase"), "Calls that wait for a worker, or that a worker has"),
    Metric("gateway", "counter", "connect_leases_lost", ("app",), "Leases of calls whose worker was silent too long"),
    Metric("sources", "counter", "source_records", ("topic",), "Records of sources that were read"),
    Metric("sources", "counter", "source_events", ("topic",), "Events of sources that are durable"),
    Metric(
        "sources", "gauge", "source_partitions", ("topic",), "Partitions of a source that are assigned to this process"
    ),
    Metric(
        "sources", "gauge", "source_lag_records", ("topic", "partition"), "Records of sources that are not acknowledged"
    ),
    Metric("process", "gauge", "ready", (), "1 when /ready answers 200"),
    Metric("process", "counter", "dead_letters", ("topic", "reason"), "Records written to dead-letters"),
    Metric("process", "counter", "rebalances", ("group",), "Rebalances"),
    Metric(
        "process", "gauge", "build_info", ("version", "app", "app_version"), "Always 1; the labels have the versions"
    ),
)
_BY_NAME = {metric.name: metric for metric in METRICS}
# Counts of the engine with another name in the metrics, and the label that is added.
_COUNTS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "match_errors": ("expression_errors", ("match",)),
    "stale_bulk_pages": ("stale_reports", ()),
    "stale_bulk_outcomes": ("stale_reports", ()),
    "condition_errors": ("expression_errors", ("trigger",)),
    "cancel_on_errors": ("expression_errors", ("cancel_on",)),
    "attribute_errors": ("expression_errors", ("attribute",)),
    "gate_key_errors": ("expression_errors", ("limit",)),
}
# Their first label comes from the code.
_BY_FUNCTION = {metric.name for metric in METRICS if metric.labels[:1] in (("function",), ("gate",))}
OTHER_FUNCTIONS = "(other)"
_OPEN = {
    "open_runs": "runs_open",
    "open_steps": "steps_open",
    "open_gate_permits": "gate_permits_in_use",
    "open_gate_waiters": "gate_runs_waiting",
}
_SAMPLES = {
    "run": "run_duration_seconds",
    "queue": "queue_duration_seconds",
    "step": "step_duration_seconds",
    "match": "match_latency_seconds",
    "timer_late": "timer_late_seconds",
}
# These end with the commit of the batch, and their samples end where the batch starts.
_UNTIL_COMMIT = {"step", "match"}


class Reading(NamedTuple):
    """The current value of a gauge, or of a counter that is kept elsewhere."""

    name: str
    labels: tuple[str, ...]
    value: float


class _Histogram:
    """The counts of a histogram. It is not thread-safe, and five times as fast as prometheus_client's, which is."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def read(self) -> tuple[list[tuple[str, float]], float]:
        """Return cumulative buckets in Prometheus' format, and the sum of all values."""
        below, buckets = 0, list[tuple[str, float]]()
        for bound, count in zip((*map(str, self._bounds), "+Inf"), self._counts, strict=True):
            below += count
            buckets.append((bound, below))
        return buckets, self._sum


Families = Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]


class _Exported(Collector):
    def __init__(self, read: Callable[[], Families]) -> None:
        self._read = read

    def collect(self) -> Families:
        return self._read()


class Metrics:
    """The metrics of a process with these components; it observes shards, workers and dead letters."""

    def __init__(self, *components: Component) -> None:
        self._exported = [metric for metric in METRICS if metric.component in {*components, "process"}]
        self._counters: dict[str, dict[tuple[str, ...], float]] = {
            metric.name: defaultdict(float) for metric in METRICS if metric.kind == "counter"
        }
        self._histograms: dict[str, dict[tuple[str, ...], _Histogram]] = {
            metric.name: {} for metric in METRICS if metric.kind == "histogram"
        }
        self._open: dict[int, dict[tuple[str, ...], int]] = {}
        self._functions: set[str] = set()
        self._hot: dict[int, HotEvents] = {}
        self._sources: list[Callable[[], Iterable[Reading]]] = []
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Exported(self._collect))
        # CPU, memory and open files, where the operating system has /proc.
        ProcessCollector(registry=self._registry)

    def ask(self, *sources: Callable[[], Iterable[Reading]]) -> None:
        """Call `sources` for more readings whenever the metrics are read."""
        self._sources += sources

    def readings(self) -> Iterator[Reading]:
        """Return what all sources read now."""
        for source in self._sources:
            yield from source()

    def count(self, name: str, *labels: str, amount: float = 1) -> None:
        """Add to a counter."""
        self._counters[name][self._bounded(name, labels)] += amount

    def _bounded(self, name: str, labels: tuple[str, ...]) -> tuple[str, ...]:
        """Return the labels; a function or limit beyond the maximum number is counted as `(other)`."""
        if name not in _BY_FUNCTION or labels[0] in self._functions:
            return labels
        if len(self._functions) < FUNCTIONS_LABELLED_MAX:
            self._functions.add(labels[0])
            return labels
        return (OTHER_FUNCTIONS, *labels[1:])

    def observe(self, name: str, labels: tuple[str, ...], value: float) -> None:
        """Add a value to a histogram."""
        known, labels = self._histograms[name], self._bounded(name, labels)
        histogram = known.get(labels)
        if histogram is None:
            histogram = known[labels] = _Histogram(_BY_NAME[name].buckets)
        histogram.observe(value)

    # Observer of shards.

    def recovered(self, shard: int, open_counts: Mapping[tuple[str, str], int], functions: Sequence[str]) -> None:
        """The shard serves, with these counts of open runs and steps."""
        self._open[shard] = {(name, label): amount for (name, label), amount in open_counts.items()}
        for function in functions:
            # Prometheus cannot compute the increase of a counter whose first sample is 1: start at 0, in `reads` too.
            self.count("runs_started", function, amount=0)
            self.count("runs_ended", function, "failed", amount=0)
            self.count("run_warnings", function, amount=0)
        for kind in ("match", "trigger"):
            self.count("expression_errors", kind, amount=0)
        for topic in (EVENTS, INBOX, FUNCTIONS):
            self.reads(topic)
        self.count("shard_recoveries", str(shard))

    def committed(self, shard: int, batch: BatchStats) -> None:
        """Count a batch that was committed or that changed nothing."""
        label = (str(shard),)
        self._counters["records"][label] += batch.records
        if batch.records:
            self.observe("batch_records", label, batch.records)
        self.observe("batch_duration_seconds", label, batch.seconds)
        if batch.commit_seconds:
            self.observe("commit_duration_seconds", label, batch.commit_seconds)
        self._hot.setdefault(shard, HotEvents()).add(batch.applied, batch.events)
        opened = self._open.setdefault(shard, {})
        for count, amount in batch.counts.items():
            if count[0] in _OPEN:
                opened[count] = max(opened.get(count, 0) + amount, 0)
            else:
                name, more = _COUNTS.get(count[0], (count[0], ()))
                self.count(name, *count[1:], *more, amount=amount)
        for name, what, value_ms in batch.samples:
            seconds = value_ms / 1_000 + (batch.seconds if name in _UNTIL_COMMIT else 0)
            self.observe(_SAMPLES[name], (what,) if what else (), seconds)

    def left(self, shard: int) -> None:
        """The shard no longer serves here; its next owner counts its open runs."""
        self._open.pop(shard, None)
        self._hot.pop(shard, None)

    # Observer of workers.

    def attempted(self, function: str, outcome: str, seconds: float) -> None:
        """Count an attempt of the body of a step."""
        self.count("worker_step_attempts", function, outcome)
        self.observe("worker_step_duration_seconds", (function,), seconds)

    def loading(self, app: str) -> None:
        """A worker requests a run with all its memos."""
        self.count("worker_loads", app)

    # Observer of dead letters; those of shards are counted with their batch.

    def reads(self, topic: str) -> None:
        """This process reads a topic, of which it has no dead letter yet."""
        for kind in DEAD_LETTER_KINDS:
            self.count("dead_letters", topic, kind, amount=0)

    def dead_letter(self, topic: str, kind: DeadLetterKind) -> None:
        """A dead letter of a topic is durable."""
        self.count("dead_letters", topic, kind)

    def _opened(self) -> Iterator[Reading]:
        sums: dict[tuple[str, ...], int] = defaultdict(int)
        for counts in self._open.values():
            for count, amount in counts.items():
                name = _OPEN[count[0]]
                sums[name, *self._bounded(name, count[1:])] += amount
        for (name, *labels), amount in sums.items():
            yield Reading(name, tuple(labels), amount)

    def _hot_events(self) -> Iterator[Reading]:
        for shard, names in self._hot.items():
            for name, share in names.shares():
                yield Reading("hot_event_share", (str(shard), name), share)

    def _collect(self) -> Families:
        read: dict[str, dict[tuple[str, ...], float]] = defaultdict(dict)
        for source in (self._opened, self._hot_events, *self._sources):
            for reading in source():
                read[reading.name][reading.labels] = reading.value
        for metric in self._exported:
            name, labels = f"stepstream_{metric.name}", metric.labels
            match metric.kind:
                case "counter":
                    counter = CounterMetricFamily(name, metric.help, labels=labels)
                    for values, count in (self._counters[metric.name] | read[metric.name]).items():
                        counter.add_metric(values, count)
                    yield counter
                case "gauge":
                    gauge = GaugeMetricFamily(name, metric.help, labels=labels)
                    for values, value in read[metric.name].items():
                        gauge.add_metric(values, value)
                    yield gauge
                case "histogram":
                    yield self._histogram(metric, name)

    def _histogram(self, metric: Metric, name: str) -> HistogramMetricFamily:
        family = HistogramMetricFamily(name, metric.help, labels=metric.labels)
        for values, histogram in self._histograms[metric.name].items():
            buckets, total = histogram.read()
            family.add_metric(values, buckets, total)
        return family

    def text(self) -> bytes:
        """Return all metrics in the text format of Prometheus."""
        return generate_latest(self._registry)
