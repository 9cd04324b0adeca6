"""A recovery tells how far it is: rows read and offsets left, in the figures and in the log."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stepstream.contract.topics import CHANGELOG
from stepstream.host.monitoring.gauges import EngineGauges
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.kafka import shard_log as kafka_log
from stepstream.runtime.kafka.fleet import ShardGroup, ShardGroupOptions, ShardState
from stepstream.runtime.kafka.shard_log import KafkaLog
from stepstream.runtime.metrics import Metrics
from stepstream.runtime.ports import LogRecord
from tests.runtime.exposition import Scrape

ROWS, PER_READ = 100, 30


class Changelog:
    """A cluster whose one changelog has some rows, and a reader of it."""

    def __init__(self) -> None:
        self.read_to = 0

    async def reader(self, *, known: bool) -> "Changelog":  # noqa: ARG002 - the shape of a cluster
        """Return the reader."""
        return self

    def __getattr__(self, _name: str) -> Any:
        return lambda *_: None

    async def ends(self, places: list[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return where the changelog ends."""
        return dict.fromkeys(places, ROWS)

    async def position(self, _at: tuple[str, int]) -> int:
        """Return how far it was read."""
        return self.read_to

    async def read(self, _limit: int, _wait_ms: int) -> list[LogRecord]:
        """Return the next rows."""
        first, self.read_to = self.read_to, min(self.read_to + PER_READ, ROWS)
        return [LogRecord(CHANGELOG, 3, at, b"k", b"v", (), 0) for at in range(first, self.read_to)]

    async def close(self) -> None:
        """Do nothing."""


async def test_a_recovery_tells_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is left falls with each read, and is 0 after the last; a long one speaks in the log now and then."""
    monkeypatch.setattr(kafka_log, "_PROGRESS_S", 0.0)
    caplog.set_level(logging.INFO, "stepstream.runtime.kafka.shard_log")
    log = KafkaLog(Changelog(), VirtualClock(0), 3)  # type: ignore[arg-type]  # As far as it is used.
    left = [(after, log.changelog_left) async for _, after in log.changelog(0)]
    assert left == [(30, 70), (60, 40), (90, 10), (100, 0)]
    assert log.changelog_left == 0
    told = [(record.__dict__["shard"], record.getMessage()) for record in caplog.records]
    assert (3, "shard 3 has read its changelog up to 60 of 100") in told


def test_an_engine_says_why_it_is_not_ready(tmp_path: Path) -> None:
    """It waits for the group, or for shards: how much of their changelog is left, and how they failed last."""
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
    told = (
        "shard 2 recovers, 1,234 rows left; shard 5 is starting (last failure: starting a producer: no broker answers)"
    )
    assert group.unready == told
    # One that was given a moment ago has not begun.
    group._tasks |= dict.fromkeys((6, 7), group._tasks[2])
    assert group.unready == f"{told}; shard 6 is starting; and 1 more"


def test_the_figures_tell_it() -> None:
    """A shard that recovers does not serve, has read so many rows, and so many offsets are left."""

    class Group:
        """Two shards of which one recovers."""

        unready = "shard 3 recovers, 40 rows left"
        assignments = 1

        def states(self) -> list[ShardState]:
            """Return both."""
            return [ShardState(0, True, 7, 0), ShardState(3, False, 60, 40)]

    nobody: Any = SimpleNamespace(ping=None)
    gauges = EngineGauges(Group(), nobody, 4)  # type: ignore[arg-type]  # As far as it is used.
    metrics = Metrics("engine")
    metrics.ask(gauges.read)
    scrape = Scrape(metrics.text().decode())
    assert gauges.unready == "shard 3 recovers, 40 rows left"
    assert scrape.sum("stepstream_ready") == 0
    assert scrape.values("stepstream_shard_serving") == [({"shard": "0"}, 1), ({"shard": "3"}, 0)]
    assert scrape.sum("stepstream_recovery_read_rows", shard="3") == 60
    assert scrape.sum("stepstream_recovery_left_rows", shard="3") == 40
