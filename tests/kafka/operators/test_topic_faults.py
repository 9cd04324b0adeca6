"""What an operator does to the topics of a running cluster ends nothing, and is reported with its remedy."""

import time
from pathlib import Path

import pytest

from stepstream.contract.history import RunBegan
from stepstream.contract.topics import EVENTS, HISTORY, INBOX, commands_topic
from tests.kafka.cluster.broker import Broker, BrokerOptions, running
from tests.kafka.operators.faults import (
    ALL_DELETED,
    CHANGELOG_RECREATED,
    EVENTS_RECREATED,
    INBOX_DELETED,
    add_partitions,
    commands_recreated,
    partitions_added,
)
from tests.kafka.operators.trial import SHARDS, Trial
from tests.polling import until

pytestmark = [pytest.mark.kafka, pytest.mark.long]
# Twice the 10 s of the runbook, because other tests load the machine: from the deletion of a topic until no process is
# ready, and until a request is answered. tests/runtime/kafka/topics/test_topic_watch.py holds the 10 s in virtual time.
UNREADY_S_MAX = ANSWER_S_MAX = 20.0
# From the command that creates it again until all processes are ready: 10 s, and the probes and the command itself.
READY_S_MAX = 40.0


def test_partitions_that_are_added_change_no_shard(bootstrap: str, tmp_path: Path) -> None:
    """Engines keep the recorded number of shards, and read events of every partition; warnings name the topic.

    Nothing is written to further partitions of the other topics: read models would miss runs, and workers commands.
    """
    with Trial.start(bootstrap, "grown", tmp_path) as trial:
        trial.strike(partitions_added(INBOX))
        trial.strike(partitions_added(EVENTS, 3))
        trial.strike(partitions_added(HISTORY))
        add_partitions(trial.site, commands_topic("long"), SHARDS + 2)
        until(lambda: trial.site.logged(".commands.long' has", "worker") > 0)
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


def test_deleted_topic_is_reported_until_it_exists(tmp_path: Path) -> None:
    """Engine and worker are not ready, log the remedy once, and continue once the command was run.

    The broker creates each topic that a client asks for, as brokers do by default; ours ask for none to be created.
    """
    creating = BrokerOptions(properties={"auto.create.topics.enable": "true", "num.partitions": "1"})
    (folder := tmp_path / "broker").mkdir()
    with running(Broker(folder, creating)) as broker, Trial.start(broker.bootstrap, "vanished", tmp_path) as trial:
        began = time.monotonic()
        trial.strike(INBOX_DELETED)
        until(lambda: all("inbox' is missing" in reason for reason in trial.reasons("worker")))
        assert time.monotonic() - began < UNREADY_S_MAX
        began = time.monotonic()
        trial.recover(INBOX_DELETED)
        assert time.monotonic() - began < READY_S_MAX
        trial.complete()
        for member in (*trial.observed.engines, *trial.observed.workers):
            assert member.said("ERROR stepstream.runtime.kafka.topics.topic_watch") == 1
            assert member.said("ERROR") <= 4, member.log.read_text()


def test_cluster_whose_topics_were_all_deleted_starts_again(bootstrap: str, tmp_path: Path) -> None:
    """As with a new broker: the tables are set aside, not deleted, and new events start runs."""
    with Trial.start(bootstrap, "wiped", tmp_path) as trial:
        trial.strike(ALL_DELETED)
        began = time.monotonic()
        url = trial.observed.url(trial.observed.engines[0])
        answer = trial.observed.client.post(f"{url}/e/key", json={"name": "long/go"}, timeout=60)
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert time.monotonic() - began < ANSWER_S_MAX
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
    """It would wait at the offset of the deleted topic, ready and without lag. Runs with lost commands continue."""
    with Trial.start(bootstrap, "commands", tmp_path) as trial:
        for _ in range(3):
            trial.complete()
        # No worker reads the commands of these runs before they are lost.
        trial.site.fleet.workers[0].freeze()
        for _ in range(3):
            trial.send()
        until(lambda: trial.begun() == trial.sent)
        commands_recreated("long").strike(trial.site)
        trial.site.fleet.workers[0].thaw()
        until(lambda: commands_recreated("long").is_reported(trial.site))
        trial.complete()
        assert commands_topic("long") in trial.observed.workers[0].log.read_text()
