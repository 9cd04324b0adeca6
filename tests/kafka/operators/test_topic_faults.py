"""What an operator does to the topics of a running cluster ends nothing, and is reported with its remedy."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from stepstream.contract.codec import encode
from stepstream.contract.events import event_record
from stepstream.contract.history import RunBegan, RunEnded, decode_history
from stepstream.contract.topics import EVENTS, HISTORY, INBOX, commands_topic
from stepstream.runtime.ports import NewRecord
from tests.kafka.cluster.fleet import APPS, Fleet
from tests.kafka.cluster.observed import Observed, until
from tests.kafka.operators.faults import (
    ALL_DELETED,
    CHANGELOG_RECREATED,
    EVENTS_RECREATED,
    INBOX_DELETED,
    OperatorFault,
    Site,
    commands_recreated,
    partitions_added,
)

pytestmark = [pytest.mark.kafka, pytest.mark.long]
SHARDS = 2
APP = APPS / "members" / "long_app.py"


@dataclass(slots=True)
class Trial:
    """An engine and a worker of a cluster, and the events that were sent to it."""

    site: Site
    observed: Observed
    sent: int = 0

    @classmethod
    @contextmanager
    def start(cls, bootstrap: str, namespace: str, folder: Path) -> Iterator[Self]:
        """Provide a cluster whose processes are ready and that has completed a run."""
        with Fleet(bootstrap, namespace, folder, APP) as fleet, Observed(fleet) as observed:
            site = Site(fleet, SHARDS, "long")
            site.apply()
            fleet.add_engine()
            fleet.add_worker("--metrics-port", "0")
            trial = cls(site, observed)
            trial.until_ready()
            trial.complete()
            yield trial

    def until_ready(self) -> None:
        """Return when all processes are ready."""
        until(lambda: self.observed.answers("/ready") == {200})

    def reasons(self, role: str) -> list[str]:
        """Return why the processes of a role are not ready."""
        members = self.observed.engines if role == "engine" else self.observed.workers
        answers = [self.observed.client.get(f"{self.observed.url(member)}/ready").json() for member in members]
        return [answer.get("reason", "") for answer in answers]

    def send(self, partition: int = 0) -> str:
        """Write an event to a partition as any producer may; return its id."""
        self.sent += 1
        event = event_record("long/go", {"n": self.sent}, id=f"go-{self.sent}")

        async def write() -> None:
            producer = await self.site.cluster.producer()
            await producer.send([NewRecord(EVENTS, partition, event.id.encode(), encode(event))])
            await producer.close()

        self.site.do(write())
        return event.id

    def complete(self, partition: int = 0) -> None:
        """Send an event, and return when its run has completed."""
        self.send(partition)
        number = self.sent
        until(lambda: self.ended().count("completed") >= number)

    def ended(self) -> list[str]:
        """Return the statuses of the runs that have ended, by the topic `history`."""
        return [entry.status for entry in self.history() if isinstance(entry, RunEnded) and entry.function == "work"]

    def history(self) -> list[object]:
        """Return the entries of `history`."""

        async def read() -> list[object]:
            reader = await self.site.cluster.reader()
            try:
                places = [(HISTORY, shard) for shard in range(SHARDS)]
                reader.assign(places)
                reader.seek(await reader.beginnings(places))
                ends = await reader.ends(places)
                found: list[object] = []
                while any([await reader.position(at) < ends[at] for at in places]):
                    found += [decode_history(record.value) for record in await reader.read(500, 100)]
                return found
            finally:
                await reader.close()

        found: list[object] = self.site.do(read())
        return found

    def strike(self, fault: OperatorFault) -> None:
        """Strike with a fault; return when it is reported."""
        before = self.site.logged(fault.logged, fault.role)
        fault.strike(self.site)
        until(lambda: fault.is_reported(self.site, before))
        if fault.unready:
            until(lambda: all(fault.unready in reason for reason in self.reasons(fault.role)))

    def recover(self, fault: OperatorFault) -> None:
        """Remedy a fault; return when that is logged and all processes are ready."""
        fault.remedy(self.site)
        if fault.recovered:
            until(lambda: self.site.logged(fault.recovered, fault.role) > 0)
        self.until_ready()


def test_partitions_that_are_added_change_no_shard(bootstrap: str, tmp_path: Path) -> None:
    """Engines keep the recorded number of shards, and read events of every partition; warnings name the topic."""
    with Trial.start(bootstrap, "grown", tmp_path) as trial:
        trial.strike(partitions_added(INBOX))
        trial.strike(partitions_added(EVENTS, 3))
        trial.until_ready()
        trial.complete(partition=SHARDS + 2)
        fleet = trial.site.fleet
        for member in (*fleet.engines, *fleet.workers):
            member.stop()
            member.log.write_text("")
            member.start()
        trial.until_ready()
        trial.complete(partition=SHARDS + 1)
        engine, worker = fleet.engines[0].log.read_text(), fleet.workers[0].log.read_text()
        for topic, effect in ((INBOX, "the further ones are not used"), (EVENTS, "events in the further ones")):
            assert f"topic 'grown.{topic}' has" in engine
            assert effect in engine
            assert effect in worker
        assert "changelog' has" not in engine
        assert f"with {SHARDS} shards" in fleet.command("topics", "check", "--app", "long")


def test_deleted_topic_is_reported_until_it_exists(bootstrap: str, tmp_path: Path) -> None:
    """Engine and worker are not ready, log the remedy once, and continue once the command was run."""
    with Trial.start(bootstrap, "vanished", tmp_path) as trial:
        trial.strike(INBOX_DELETED)
        until(lambda: all("inbox' is missing" in reason for reason in trial.reasons("worker")))
        trial.recover(INBOX_DELETED)
        trial.complete()
        for member in (*trial.observed.engines, *trial.observed.workers):
            assert member.said("ERROR stepstream.runtime.kafka.topic_watch") == 1
            assert member.said("ERROR") < 12, member.log.read_text()


def test_cluster_whose_topics_were_all_deleted_starts_again(bootstrap: str, tmp_path: Path) -> None:
    """As with a new broker: the tables are set aside, not deleted, and new events start runs."""
    with Trial.start(bootstrap, "wiped", tmp_path) as trial:
        trial.strike(ALL_DELETED)
        trial.recover(ALL_DELETED)
        # An event that precedes the registration of its function starts nothing.
        until(lambda: trial.site.logged("is registered", "worker") > 1)
        trial.sent = 0
        trial.complete()
        asides = {path.name for path in trial.observed.engines[0].disk.iterdir() if ".aside" in path.name}
        assert {f"shard-{shard}.aside" for shard in range(SHARDS)} <= asides


def test_recreated_changelog_repeats_no_event(bootstrap: str, tmp_path: Path) -> None:
    """A running shard does not write to the new changelog; it starts over, and continues its inputs where they were."""
    with Trial.start(bootstrap, "changed", tmp_path) as trial:
        for _ in range(3):
            trial.complete()
        CHANGELOG_RECREATED.strike(trial.site)
        trial.send()
        until(lambda: CHANGELOG_RECREATED.is_reported(trial.site, 1))
        trial.recover(CHANGELOG_RECREATED)
        trial.complete()
        began = [
            entry.events[0].id for entry in trial.history() if isinstance(entry, RunBegan) and entry.function == "work"
        ]
        assert sorted(began) == sorted({f"go-{number}" for number in range(1, trial.sent + 1)})


def test_recreated_events_are_read_from_their_beginning(bootstrap: str, tmp_path: Path) -> None:
    """The offsets of the deleted topic do not hide the events of the new one."""
    with Trial.start(bootstrap, "renewed", tmp_path) as trial:
        for _ in range(3):
            trial.complete()
        trial.strike(EVENTS_RECREATED)
        trial.complete()


def test_worker_reads_a_recreated_topic_of_commands(bootstrap: str, tmp_path: Path) -> None:
    """It would wait at the offset of the deleted topic, ready and without lag."""
    with Trial.start(bootstrap, "commands", tmp_path) as trial:
        for _ in range(3):
            trial.complete()
        trial.strike(commands_recreated("long"))
        trial.complete()
        assert commands_topic("long") in trial.observed.workers[0].log.read_text()
