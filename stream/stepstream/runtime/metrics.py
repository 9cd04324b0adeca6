"""What operators see: Prometheus metrics, counted once a batch and never once a record."""

from collections import Counter as Counts

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from stepstream.contract.history import HistoryEntry, RunBegan, RunEnded, StepAttemptFailed, StepEnded
from stepstream.contract.outcomes import TimedOut

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_RUN_SECONDS = (0.01, 0.1, 1, 10, 60, 600, 3_600, 86_400, 604_800)
_BATCH_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2)


class Metrics:
    """The metrics of one process; labels are function ids and statuses, so their number is bounded by the code."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._records = Counter("stepstream_records", "Records taken in by a shard", ["shard"], registry=self.registry)
        self._events = Counter("stepstream_engine", "What the engine counts, by name", ["name"], registry=self.registry)
        self._batch = Histogram(
            "stepstream_batch_seconds", "Time for a batch", ["shard"], buckets=_BATCH_SECONDS, registry=self.registry
        )
        self._commit = Histogram(
            "stepstream_commit_seconds", "Time for a commit", ["shard"], buckets=_BATCH_SECONDS, registry=self.registry
        )
        self._recovered = Counter(
            "stepstream_recovered_rows", "Changelog rows read on recovery", ["shard"], registry=self.registry
        )
        self._started = Counter("stepstream_runs_started", "Runs accepted", ["function"], registry=self.registry)
        self._ended = Counter("stepstream_runs_ended", "Runs ended", ["function", "status"], registry=self.registry)
        self._duration = Histogram(
            "stepstream_run_seconds",
            "Time from start to end",
            ["function"],
            buckets=_RUN_SECONDS,
            registry=self.registry,
        )
        self._steps = Counter("stepstream_steps", "Steps with a result", ["kind"], registry=self.registry)
        self._retries = Counter("stepstream_step_retries", "Failed attempts of steps", registry=self.registry)
        self._timeouts = Counter("stepstream_step_timeouts", "Steps that timed out", registry=self.registry)
        self._began: dict[str, int] = {}

    def recovered(self, shard: int, rows: int) -> None:
        """Count the rows that a shard read from its changelog."""
        self._recovered.labels(str(shard)).inc(rows)

    def committed(self, shard: int, records: int, counts: Counts[str], seconds: float, commit_seconds: float) -> None:
        """Count a committed batch."""
        label = str(shard)
        self._records.labels(label).inc(records)
        self._batch.labels(label).observe(seconds)
        self._commit.labels(label).observe(commit_seconds)
        for name, amount in counts.items():
            self._events.labels(name).inc(amount)

    def watch(self, entry: HistoryEntry) -> None:
        """Count an entry of history."""
        match entry:
            case RunBegan():
                self._started.labels(entry.function).inc()
                self._began[entry.run_id] = entry.start_at
            case RunEnded():
                self._ended.labels(entry.function, entry.status).inc()
                if (began := self._began.pop(entry.run_id, None)) is not None:
                    self._duration.labels(entry.function).observe(max(entry.at - began, 0) / 1_000)
            case StepEnded():
                self._steps.labels(entry.kind).inc()
                if isinstance(entry.outcome, TimedOut):
                    self._timeouts.inc()
            case StepAttemptFailed():
                self._retries.inc()
            case _:
                pass

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
