"""The progress of a recovery is visible in the metrics, in the readiness and in the log."""

import logging
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from stepstream.contract.topics import CHANGELOG
from stepstream.host.monitoring.gauges import EngineGauges
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.kafka.fleet import ShardGroup, ShardGroupOptions, ShardState
from stepstream.runtime.kafka.shards import shard_log as kafka_log
from stepstream.runtime.kafka.shards.shard_log import KafkaLog
from stepstream.runtime.metrics import Metrics
from stepstream.runtime.ports import LogRecord
from tests.fakes.cluster import FakeCluster
from tests.runtime.exposition import Scrape

ROWS, PER_READ = 100, 30


async def test_recovery_reports_its_progress(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """The number of offsets left falls to 0; a long recovery logs its progress."""
    monkeypatch.setattr(kafka_log, "_PROGRESS_S", 0.0)
    caplog.set_level(logging.INFO, "stepstream.runtime.kafka.shards.shard_log")
    cluster = FakeCluster()
    cluster.records_per_read = PER_READ
    cluster.add(LogRecord(CHANGELOG, 3, at, b"k", b"v", (), 0) for at in range(ROWS))
    log = KafkaLog(cluster, VirtualClock(0), 3, 8)
    left = [(after, log.changelog_left) async for _, after in log.changelog(0)]
    assert left == [(30, 70), (60, 40), (90, 10), (100, 0)]
    assert log.changelog_left == 0
    logged = [(record.__dict__["shard"], record.getMessage()) for record in caplog.records]
    assert (3, "shard 3 has read its changelog up to 60 of 100") in logged


def test_engine_states_why_it_is_not_ready(tmp_path: Path) -> None:
    """It waits for the group or for shards: the reason has the rest of their changelog, and their last failure."""
    group = ShardGroup(None, VirtualClock(0), ShardGroupOptions(8, tmp_path))  # type: ignore[arg-type]  # It is not served.
    assert group.unready == "the group has not assigned shards yet"
    group._joined = True
    assert group.unready == ""
    served = [
        (2, SimpleNamespace(serving=False, rows_read=1), 1_234),
        (3, SimpleNamespace(serving=True, rows_read=5), 0),
        (5, SimpleNamespace(serving=False, rows_read=0), 0),
    ]
    for shard, stand_in, left in served:
        group._tasks[shard] = group._served[shard] = stand_in  # type: ignore[assignment]
        group._logs[shard] = SimpleNamespace(changelog_left=left)  # type: ignore[assignment]
    group._failed = {3: "long ago", 5: "starting a producer: no broker answers"}
    reasons = (
        "shard 2 recovers, 1,234 rows left; shard 5 is starting (last failure: starting a producer: no broker answers)"
    )
    assert group.unready == reasons
    # A shard that was assigned a moment ago was not started yet.
    group._tasks |= dict.fromkeys((6, 7), group._tasks[2])
    assert group.unready == f"{reasons}; shard 6 is starting; and 1 more"
    # Without heartbeats nothing is known of the shards of other engines.
    shown = {view.shard: (bool(view.owner), view.unready) for view in group.shards()}
    assert shown[0] == shown[4] == (False, "")
    assert shown[2] == (True, "recovers, 1,234 rows left")
    assert shown[3] == (True, "")
    assert shown[5] == (True, "is starting (last failure: starting a producer: no broker answers)")


def test_metrics_report_a_recovery() -> None:
    """A recovering shard does not serve; the rows that it read and the offsets that are left are gauges."""

    class Group:
        """Two shards, one of which recovers."""

        unready = "shard 3 recovers, 40 rows left"
        assignments = 1
        takeovers: ClassVar = Counter({1: 2})

        def states(self) -> list[ShardState]:
            """Return both."""
            return [ShardState(0, True, 7, 0), ShardState(3, False, 60, 40)]

        def oldest_waits(self) -> dict[str, float]:
            """Return no limit."""
            return {}

    backbone: Any = SimpleNamespace(ping=None)
    gauges = EngineGauges(Group(), backbone, 4)  # type: ignore[arg-type]  # As far as it is used.
    metrics = Metrics("engine")
    metrics.ask(gauges.read)
    scrape = Scrape(metrics.text().decode())
    assert gauges.unready == "shard 3 recovers, 40 rows left"
    assert scrape.sum("stepstream_ready") == 0
    assert scrape.values("stepstream_shard_serving") == [({"shard": "0"}, 1), ({"shard": "3"}, 0)]
    assert scrape.values("stepstream_shard_takeovers_total") == [({"shard": "0"}, 0), ({"shard": "1"}, 2)]
    assert scrape.sum("stepstream_recovery_read_rows", shard="3") == 60
    assert scrape.sum("stepstream_recovery_left_rows", shard="3") == 40
