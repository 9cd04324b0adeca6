"""The patches of aiokafka and Faust took hold, and refuse a library that is not the one that they were written for."""

import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock

import faust
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.client import AIOKafkaClient, ConnectionGroup
from aiokafka.cluster import ClusterMetadata
from aiokafka.consumer import fetcher
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import (
    ConcurrentTransactions,
    GroupLoadInProgressError,
    IllegalGenerationError,
    KafkaError,
    NoError,
    RebalanceInProgressError,
    UnknownMemberIdError,
    UnknownTopicOrPartitionError,
)
from aiokafka.producer.sender import AddPartitionsToTxnHandler
from aiokafka.protocol.commit import OffsetCommitResponse_v2, OffsetFetchResponse_v3
from aiokafka.protocol.fetch import FetchResponse_v4
from aiokafka.protocol.metadata import MetadataRequest_v5
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers.aiokafka import Consumer
from packaging.requirements import Requirement

from stepstream.host.sources.faust_app import make_faust
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.parsing import Batches, batches_of
from stepstream.runtime.kafka.client.patches import create_no_topics, heartbeat, patch_faust
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.patching import READ, require
from tests.tidy_rules import ROOT


def test_transaction_that_begins_too_early_is_retried_at_once() -> None:
    """Until the markers of the last transaction are written, the next one is refused; aiokafka would wait 20 ms."""
    manager = SimpleNamespace(txn_partitions=set())
    sender = SimpleNamespace(_txn_manager=manager, _retry_backoff=0.1)
    handler = AddPartitionsToTxnHandler(sender, [TopicPartition("topic", 0)])
    early = SimpleNamespace(errors=[("topic", [(0, ConcurrentTransactions.errno)])])
    assert handler.handle_response(early) <= 0.001


class LoadingCoordinator:
    """A connection to a coordinator that has not loaded its groups: error 14 for the answer as a whole."""

    async def send(self, _node: int, _request: object, **_options: object) -> OffsetFetchResponse_v3:
        """Answer as Kafka does, without any partition."""
        return OffsetFetchResponse_v3(0, [], 14)


async def test_loading_coordinator_does_not_look_like_no_commits() -> None:
    """A group that took it for "nothing is committed" would read and process everything again."""
    coordinator = object.__new__(GroupCoordinator)
    coordinator._client, coordinator.group_id, coordinator.coordinator_id = LoadingCoordinator(), "shard-0", 1
    coordinator.coordinator_dead = lambda: None
    with pytest.raises(GroupLoadInProgressError):
        await coordinator._do_fetch_commit_offsets([TopicPartition("inbox", 0)])


class DeletedTopicCoordinator:
    """A connection to a coordinator that knows no topic of a commit: error 3 for its partition."""

    async def send(self, _node: int, _request: object, **_options: object) -> OffsetCommitResponse_v2:
        """Answer as Kafka does."""
        return OffsetCommitResponse_v2([("commands", [(0, UnknownTopicOrPartitionError.errno)])])


async def test_commit_to_a_deleted_topic_is_not_retried() -> None:
    """Retried until the topic exists again, it would commit an offset of the deleted topic for the new one."""
    coordinator = object.__new__(GroupCoordinator)
    coordinator._client, coordinator.group_id, coordinator.coordinator_id = DeletedTopicCoordinator(), "worker", 1
    coordinator.generation, coordinator.member_id = 1, "member"
    with pytest.raises(KafkaError) as raised:
        await coordinator._do_commit_offsets(None, {TopicPartition("commands", 0): OffsetAndMetadata(4, "")})
    assert not raised.value.retriable


class JoiningCoordinator:
    """A coordinator that answers a heartbeat when the consumer has perhaps joined again, as another member."""

    group_id = "engine"

    def __init__(self, error: type[KafkaError], joins: str) -> None:
        self.member_id, self.generation = "first", 1
        self._error = error
        self._joins = joins
        self.calls: list[str] = []

    async def _send_req(self, _request: object) -> SimpleNamespace:
        self.member_id = self._joins or self.member_id
        return SimpleNamespace(error_code=self._error.errno)

    def reset_generation(self) -> None:
        """End the membership."""
        self.calls.append("reset")

    def request_rejoin(self) -> None:
        """Join again, as the same member."""
        self.calls.append("rejoin")


@pytest.mark.parametrize(
    ("error", "joins", "confirmed", "calls"),
    [
        (NoError, "", True, []),
        (RebalanceInProgressError, "", True, ["rejoin"]),
        (UnknownMemberIdError, "", False, ["reset"]),
        (IllegalGenerationError, "", False, ["reset"]),
        (UnknownMemberIdError, "second", False, []),
        (NoError, "second", False, []),
    ],
)
async def test_late_answer_to_a_heartbeat_ends_no_newer_membership(
    error: type[KafkaError], joins: str, confirmed: bool, calls: list[str]
) -> None:
    """On a busy machine a consumer joins while the answer is on its way, and would otherwise never stay a member."""
    coordinator = JoiningCoordinator(error, joins)
    assert await heartbeat(SimpleNamespace(_coordinator=coordinator)) == confirmed
    assert coordinator.calls == calls


async def test_consumer_that_has_not_joined_sends_no_heartbeat() -> None:
    """The answer could only be that the group does not know it."""
    coordinator = JoiningCoordinator(NoError, "")
    coordinator.member_id = ""
    assert not await heartbeat(SimpleNamespace(_coordinator=coordinator))


async def test_fetched_batches_are_parsed_before_aiokafka_sees_them() -> None:
    """test_parsing.py shows what is read that way."""
    assert vars(fetcher)["MemoryRecords"] is batches_of
    answer = FetchResponse_v4(0, [("events", [(0, 0, 9, 9, [], b"")])])
    connection = SimpleNamespace(send=lambda *_, **__: completed(answer))
    client = SimpleNamespace(ready=lambda *_, **__: completed(True), _conns={(1, ConnectionGroup.DEFAULT): connection})
    found = await AIOKafkaClient.send(client, 1, object())
    assert isinstance(found.topics[0][1][0][-1], Batches)


async def completed(result: Any) -> Any:
    """Return a result."""
    return result


async def test_faust_reads_only_committed_records() -> None:
    """Without the patch, records of aborted transactions would become events."""
    app = make_faust(Cluster(KafkaSettings("localhost:9")), "sources")
    consumer: Any = app._new_consumer()
    client = consumer._thread._create_worker_consumer(app.transport)
    consumer._thread.thread_loop.close()
    client._closed = True  # It was never started.
    assert client._isolation_level == "read_committed"


def test_faust_creates_no_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker may have no disk."""
    monkeypatch.chdir(tmp_path)
    make_faust(Cluster(KafkaSettings("localhost:9")), "sources")._create_directories()
    assert not list(tmp_path.iterdir())


def changed(self: object, records: object) -> None:
    """Stand for a function of another version."""


class AskedBroker:
    """A connection to a broker that notes the topics of which it is asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.creates: list[bool] = []

    async def send(self, request: Any) -> Any:
        """Answer that there are no brokers, after which the client leaves what it knows as it is."""
        self.asked.append(request._topics)
        self.creates.append(request.build(MetadataRequest_v5).allow_auto_topic_creation)
        return SimpleNamespace(brokers=[])


async def test_client_that_uses_no_topics_asks_for_none() -> None:
    """aiokafka would ask for all topics of the cluster, thousands of others too, and decode them on the event loop."""
    broker, client = AskedBroker(), AIOKafkaClient(bootstrap_servers="localhost:1")
    client._conns["bootstrap", ConnectionGroup.DEFAULT] = broker
    client._get_conn = AsyncMock(return_value=broker)
    for topics in (set[str](), {"events"}):
        await client._metadata_update(client.cluster, topics)
    await client._metadata_update(ClusterMetadata(metadata_max_age_ms=1), None)
    assert broker.asked == [[], ["events"], None]


async def test_only_clients_of_others_create_topics() -> None:
    """The code of a step may use aiokafka too, and count on it."""
    broker = AskedBroker()
    own = AIOKafkaConsumer(bootstrap_servers="localhost:1")
    create_no_topics(own)
    for client in (own._client, AIOKafkaClient(bootstrap_servers="localhost:1")):
        client._conns["bootstrap", ConnectionGroup.DEFAULT] = broker
        client._get_conn = AsyncMock(return_value=broker)
        await client._metadata_update(client.cluster, {"events"})
        client._conns.clear()
    assert broker.creates == [False, True]
    await own.stop()


@pytest.mark.parametrize(
    ("owner", "name", "parameters", "uses"),
    [
        (SimpleNamespace(__name__="Client"), "send", ("self",), []),
        (SimpleNamespace(__name__="Client", send=changed), "send", ("self", "request"), []),
        (SimpleNamespace(__name__="Client", send=changed), "send", ("self", "records"), ["coordinator_id"]),
        (SimpleNamespace(__name__="Client", send=5), "send", (), []),
    ],
    ids=["missing", "parameters", "code", "no-function"],
)
def test_library_that_changed_is_refused(owner: Any, name: str, parameters: tuple[str, ...], uses: list[str]) -> None:
    """The error names the attribute, the installed version and the one to install."""
    message = r"Client\.send of aiokafka 0\.\S+ is not what stepstream patches: install .* aiokafka==0\.14\.0"
    with pytest.raises(ImportError, match=message):
        require("aiokafka", owner, name, *parameters, uses=uses)


def test_changed_faust_is_refused() -> None:
    """Its patch checks before it replaces anything."""
    with pytest.raises(ImportError, match="_create_worker_consumer of faust-streaming"):
        patch_faust(faust.App, Consumer, type("Thread", (), {}))


def test_dependencies_are_bounded_to_the_versions_that_were_read() -> None:
    """pyproject.toml admits the version that was read, and no minor version after it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    bounds = {found.name: found.specifier for found in map(Requirement, project["dependencies"]) if found.name in READ}
    assert bounds.keys() == READ.keys()
    for library, read in READ.items():
        major, minor, _ = map(int, read.split("."))
        assert read in bounds[library]
        assert f"{major}.{minor + 1}.0" not in bounds[library]
