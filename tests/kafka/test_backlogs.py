"""What waits for workers is seen while no worker is up: engines ask the brokers what the groups have committed."""

import asyncio
from pathlib import Path

import pytest

from stepstream.contract.codec import dump_json, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.topics import EVENTS
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.settings import KafkaSettings
from stepstream.runtime.ports import NewRecord
from tests.kafka.broker import running_broker
from tests.kafka.fleet import Fleet
from tests.kafka.observed import Observed, until
from tests.runtime.exposition import Scrape

pytestmark = [pytest.mark.kafka, pytest.mark.slow]
APP = Path(__file__).with_name("queue_app.py")
RUNS, SHARDS = 3, 2


async def send(bootstrap: str) -> None:
    """Send the events of some runs."""
    producer = await Cluster(KafkaSettings(bootstrap, "backlogs")).producer()
    events = [EventRecord("queues/go", id=f"run-{n}", data=dump_json({"n": n})) for n in range(RUNS)]
    await producer.send([NewRecord(EVENTS, -1, event.id.encode(), encode(event)) for event in events])
    await producer.close()


class Backlog:
    """What the engines tell of the commands for some workers."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed

    def scrape(self) -> Scrape:
        """Return the metrics of all engines as one."""
        return Scrape.of([self._observed.scrape(engine) for engine in self._observed.engines])

    def is_told(self, app: str, workers: int, *, waits: bool) -> bool:
        """Tell whether so many workers are told, once, and whether commands of each partition are, once."""
        scrape = self.scrape()
        members = [value for _, value in scrape.values("stepstream_workers", app=app)]
        lags = scrape.values("stepstream_commands_lag_records", app=app)
        partitions = sorted(labels["partition"] for labels, _ in lags)
        behind = scrape.sum("stepstream_commands_lag_records", app=app)
        return (
            members == [workers]
            and partitions == [str(at) for at in range(SHARDS)]
            and (behind >= RUNS if waits else behind == 0)
        )


def who_is_up(observed: Observed) -> list[dict[str, int]]:
    """Return of each run how many workers are up with which it may be, as `runs show` tells it."""
    return [run["workers"] for run in observed.runs(observed.engines[0])]


def observe(fleet: Fleet, observed: Observed) -> None:
    """Have runs wait for a worker that is gone, then for one of their queue, and end."""
    for _ in range(2):
        fleet.add_engine()
    backlog = Backlog(observed)
    first = fleet.add_worker("--metrics-port", "0")
    until(lambda: observed.answers("/ready") == {200})
    until(lambda: backlog.is_told("queues", 1, waits=False))
    first.stop()
    fleet.workers.remove(first)
    asyncio.run(send(fleet.bootstrap))
    until(lambda: backlog.is_told("queues", 0, waits=True))
    assert backlog.is_told("queues.gpu", 0, waits=False)
    assert who_is_up(observed) == [{"queues": 0}] * RUNS
    fleet.add_worker()
    until(lambda: backlog.is_told("queues", 1, waits=False) and backlog.is_told("queues.gpu", 0, waits=True))
    until(lambda: {"queues": 1, "queues.gpu": 0} in who_is_up(observed))
    fleet.add_worker("--queue", "gpu")
    until(lambda: backlog.scrape().sum("stepstream_runs_ended_total", status="completed") == RUNS)
    until(lambda: all(backlog.is_told(app, 1, waits=False) for app in ("queues", "queues.gpu")))


def test_a_backlog_is_seen_without_workers(tmp_path: Path) -> None:
    """Commands that wait are told by one engine for each topic, with how many workers there are, be it none."""
    with (
        running_broker() as bootstrap,
        Fleet(bootstrap, "backlogs", tmp_path, APP) as fleet,
        Observed(fleet) as observed,
    ):
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "queues", "--app", "queues.gpu")
        observe(fleet, observed)
