"""Engines report commands that wait for workers from the committed offsets of the groups, also without workers."""

import asyncio
from pathlib import Path

import pytest

from stepstream.contract.codec import dump_json, encode
from stepstream.contract.events import EventRecord
from stepstream.contract.topics import EVENTS
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import NewRecord
from tests.kafka.cluster.fleet import APPS, Fleet
from tests.kafka.cluster.observed import Observed
from tests.polling import until
from tests.runtime.exposition import Scrape

pytestmark = [pytest.mark.kafka, pytest.mark.long]
APP = APPS / "members" / "queue_app.py"
RUNS, SHARDS = 3, 2


async def send(bootstrap: str) -> None:
    """Send events that start runs."""
    producer = await Cluster(KafkaSettings(bootstrap, "backlogs")).producer()
    events = [EventRecord("queues/go", id=f"run-{n}", data=dump_json({"n": n})) for n in range(RUNS)]
    await producer.send([NewRecord(EVENTS, -1, event.id.encode(), encode(event)) for event in events])
    await producer.close()


class Backlog:
    """The metrics of the engines about commands for workers."""

    def __init__(self, observed: Observed) -> None:
        self._observed = observed

    def scrape(self) -> Scrape:
        """Return the combined metrics of all engines."""
        return Scrape.of([self._observed.scrape(engine) for engine in self._observed.engines])

    def reports(self, app: str, workers: int, *, lag: bool) -> bool:
        """Return whether one engine reports a number of workers, and the lag of each partition, 0 or not."""
        scrape = self.scrape()
        members = [value for _, value in scrape.values("stepstream_workers", app=app)]
        lags = scrape.values("stepstream_commands_lag_records", app=app)
        partitions = sorted(labels["partition"] for labels, _ in lags)
        behind = scrape.sum("stepstream_commands_lag_records", app=app)
        return (
            members == [workers]
            and partitions == [str(at) for at in range(SHARDS)]
            and (behind >= RUNS if lag else behind == 0)
        )


def workers_of_runs(observed: Observed) -> list[dict[str, int]]:
    """Return for each run the number of workers of each kind that it waits for, as `runs show` prints it."""
    return [run["workers"] for run in observed.runs(observed.engines[0])]


def releases(observed: Observed) -> list[tuple[str, dict[str, int]]]:
    """Return for the app and its queue the registered release, and the releases of the running workers."""
    engine = observed.engines[0]
    workers = observed.client.get(f"{observed.url(engine)}/v1/workers").json()["workers"]
    assert [each["name"] for each in workers] == ["queues", "queues.gpu"]
    return [("".join(each["releases"]), each["running_releases"]) for each in workers]


def observe(fleet: Fleet, observed: Observed) -> None:
    """Let runs wait for a worker that has stopped, then for one of their queue, and end."""
    for _ in range(2):
        fleet.add_engine()
    backlog = Backlog(observed)
    first = fleet.add_worker("--metrics-port", "0")
    until(lambda: observed.answers("/ready") == {200})
    until(lambda: backlog.reports("queues", 1, lag=False))
    first.stop()
    fleet.workers.remove(first)
    asyncio.run(send(fleet.bootstrap))
    until(lambda: backlog.reports("queues", 0, lag=True))
    until(lambda: backlog.reports("queues.gpu", 0, lag=False))
    # The list of runs may be behind the topics.
    until(lambda: workers_of_runs(observed) == [{"queues": 0}] * RUNS)
    fleet.add_worker()
    until(lambda: backlog.reports("queues", 1, lag=False) and backlog.reports("queues.gpu", 0, lag=True))
    until(lambda: {"queues": 1, "queues.gpu": 0} in workers_of_runs(observed))
    fleet.add_worker("--queue", "gpu")
    until(lambda: backlog.scrape().sum("stepstream_runs_ended_total", status="completed") == RUNS)
    until(lambda: all(backlog.reports(app, 1, lag=False) for app in ("queues", "queues.gpu")))
    until(lambda: all(running == {release: 1} for release, running in releases(observed)))


def test_backlog_is_reported_without_workers(bootstrap: str, tmp_path: Path) -> None:
    """One engine reports the lag of each commands topic, and the number of its workers, which may be 0."""
    with Fleet(bootstrap, "backlogs", tmp_path, APP) as fleet, Observed(fleet) as observed:
        fleet.command("topics", "apply", "--shards", str(SHARDS), "--app", "queues", "--app", "queues.gpu")
        observe(fleet, observed)
