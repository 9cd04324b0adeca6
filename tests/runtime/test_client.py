"""What is asked of the client of Kafka beyond its documented use: options, and the names in it that are replaced."""

import importlib
from types import SimpleNamespace
from typing import Any

import pytest

from stepstream.contract.limits import DAY_MS
from stepstream.runtime import kafka
from stepstream.runtime.kafka import KafkaSettings, Reader

COORDINATORS = importlib.import_module("aiokafka.consumer.group_coordinator")
SENDERS = importlib.import_module("aiokafka.producer.sender")
ERRORS = importlib.import_module("aiokafka.errors")
PARTITION = importlib.import_module("aiokafka.structs").TopicPartition("topic", 0)


def test_a_member_that_does_not_read_is_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client leaves the group for who does not poll; a worker that is full does not, for as long as its steps take.

    To wait for that would take as long as the option says, so it is the option that is looked at; a worker that is
    full for more than a session is in tests/kafka/test_long_steps.py.
    """
    given: dict[str, Any] = {}
    monkeypatch.setattr(kafka, "AIOKafkaConsumer", lambda **options: given.update(options))
    Reader(KafkaSettings("nowhere:1", "test"), {}, group="worker-shop", committed=True)
    assert given["max_poll_interval_ms"] >= 7 * DAY_MS
    assert given["session_timeout_ms"] <= 10_000


def test_a_transaction_that_comes_too_early_is_tried_again_at_once() -> None:
    """The client waits 20 ms for the marks of the last one to be written: most of the time that a transaction takes.

    The name is looked up when the broker answers so; one that an upgrade renames would be ours alone.
    """
    manager = SimpleNamespace(txn_partitions=set())
    sender = SimpleNamespace(_txn_manager=manager, _retry_backoff=0.1)
    handler = SENDERS.AddPartitionsToTxnHandler(sender, [PARTITION])
    early = SimpleNamespace(errors=[("topic", [(0, ERRORS.ConcurrentTransactions.errno)])])
    assert handler.handle_response(early) <= 0.001


class Coordinator:
    """The broker that knows a group, and what the client's coordinator needs to ask it."""

    def __init__(self) -> None:
        self.answers = [
            SimpleNamespace(error_code=ERRORS.GroupLoadInProgressError.errno, topics=[]),
            SimpleNamespace(error_code=0, topics=[("topic", [(0, 7, "", 0)])]),
        ]
        self.client = object.__new__(COORDINATORS.GroupCoordinator)
        vars(self.client).update(
            group_id="worker-shop",
            coordinator_id=1,
            coordinator_dead=lambda: None,
            ensure_coordinator_known=self.known,
            _client=self,
            _retry_backoff_ms=0,
        )

    async def known(self) -> None:
        """Find nothing new."""

    async def send(self, _node: int, _request: object, **_: object) -> SimpleNamespace:
        """Return the next answer."""
        return self.answers.pop(0)


async def test_an_answer_without_committed_offsets_is_no_answer() -> None:
    """A coordinator that cannot tell what is committed is asked again; the client alone takes it for nothing at all."""
    coordinator = Coordinator()
    committed = await coordinator.client.fetch_committed_offsets([PARTITION])
    assert (committed[PARTITION].offset, coordinator.answers) == (7, [])
