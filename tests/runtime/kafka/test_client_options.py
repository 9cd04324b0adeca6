"""What a member of a group and the producer of a shard ask of the client of Kafka, past what it does by itself."""

from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import ConcurrentTransactions
from aiokafka.producer.sender import AddPartitionsToTxnHandler

from stepstream.contract.limits import DAY_MS
from stepstream.runtime.kafka import reader
from stepstream.runtime.kafka.reader import Reader
from stepstream.runtime.kafka.settings import KafkaSettings


def test_a_member_that_does_not_read_is_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client leaves the group for who does not poll; a worker that is full does not, for as long as its steps take.

    To wait for that would take as long as the option says, so it is the option that is looked at; a worker that is
    full for more than a session is in tests/kafka/test_long_steps.py.
    """
    given: dict[str, Any] = {}
    monkeypatch.setattr(reader, "AIOKafkaConsumer", lambda **options: given.update(options))
    Reader(KafkaSettings("nowhere:1", "test"), {}, "worker-shop", "", True, False)
    assert given["max_poll_interval_ms"] >= 7 * DAY_MS
    assert given["session_timeout_ms"] <= 10_000


def test_a_transaction_that_comes_too_early_is_tried_again_at_once() -> None:
    """The client waits 20 ms for the marks of the last one to be written: most of the time that a transaction takes.

    The name is looked up when the broker answers so; one that an upgrade renames would be ours alone.
    """
    manager = SimpleNamespace(txn_partitions=set())
    sender = SimpleNamespace(_txn_manager=manager, _retry_backoff=0.1)
    handler = AddPartitionsToTxnHandler(sender, [TopicPartition("topic", 0)])
    early = SimpleNamespace(errors=[("topic", [(0, ConcurrentTransactions.errno)])])
    assert handler.handle_response(early) <= 0.001
