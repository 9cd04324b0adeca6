"""How errors and cancellations inside a Kafka client reach its callers, and how a client that cannot stop is closed."""

import asyncio
from unittest.mock import Mock

import pytest
from aiokafka.errors import (
    IllegalOperation,
    InvalidSessionTimeoutError,
    InvalidTransactionTimeout,
    KafkaError,
    ProducerFenced,
)

from stepstream.contract.limits import DAY_MS
from stepstream.contract.topics import EVENTS
from stepstream.runtime.kafka.client import reader
from stepstream.runtime.kafka.client.errors import translate_kafka_errors
from stepstream.runtime.kafka.client.producer import Producer
from stepstream.runtime.kafka.client.reader import Reader
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import Fenced, LogError, NewRecord


async def cancelled_by_client() -> None:
    """Wait for a future that a client cancels."""
    waited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waited.cancel()
    await waited


async def test_cancellation_by_a_client_is_an_unknown_outcome() -> None:
    """A caller whose client cancels its call gets an error: the write may have succeeded."""
    with pytest.raises(LogError, match="writing: cancelled by the Kafka client"), translate_kafka_errors("writing"):
        await cancelled_by_client()


async def test_cancellation_of_the_caller_is_not_translated() -> None:
    """A task that is cancelled while a client works for it ends as cancelled."""

    async def write() -> None:
        with translate_kafka_errors("writing"):
            await asyncio.get_running_loop().create_future()

    writing = asyncio.ensure_future(write())
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing


class Fencing:
    """A client that learns after its first record that it was fenced: it fails that one, and refuses the next."""

    def __init__(self) -> None:
        self.sent: list[asyncio.Future[None]] = []

    async def send(self, _topic: str, _value: bytes, **_options: object) -> asyncio.Future[None]:
        """Return a future of the first record only."""
        if self.sent:
            self.sent[0].set_exception(ProducerFenced())
            raise IllegalOperation("Can't send messages while not in transaction")
        self.sent.append(asyncio.get_running_loop().create_future())
        return self.sent[0]


async def test_producer_fenced_between_records_says_so() -> None:
    """The owner of the transaction learns that another one has it, whichever record the client refuses."""
    producer = Producer(KafkaSettings(), {"bootstrap_servers": "127.0.0.1:1"}, "redrive")
    await producer.close()
    producer._client = Fencing()
    record = NewRecord(EVENTS, 0, b"k", b"v")
    with pytest.raises(Fenced, match="writing: fenced by a newer owner"):
        await producer.send([record, record])


class Shrunk:
    """A client of a topic that was created again with two partitions instead of three."""

    count = 3

    async def partitions_for(self, _topic: str) -> range:
        """Return the partitions."""
        return range(self.count)

    async def send(self, _topic: str, _value: bytes, **options: object) -> asyncio.Future[Mock]:
        """Refuse another partition, as aiokafka does."""
        assert options["partition"] in range(self.count), "Unrecognized partition"
        sent = asyncio.get_running_loop().create_future()
        sent.set_result(Mock(partition=options["partition"], offset=0))
        return sent


async def test_producer_writes_to_a_topic_with_fewer_partitions() -> None:
    """The first write fails with an error that callers handle; the next one uses the new number."""
    producer = Producer(KafkaSettings(), {"bootstrap_servers": "127.0.0.1:1"})
    await producer.close()
    producer._client = client = Shrunk()
    records = [NewRecord(EVENTS, -1, b"", b"v")] * 3
    assert {partition for partition, _ in await producer.send(records)} == {0, 1, 2}
    client.count = 2
    with pytest.raises(LogError, match="writing: topic 'events' has no partition 2"):
        await producer.send(records)
    assert {partition for partition, _ in await producer.send(records)} == {0, 1}


class Stubborn:
    """A client that fails to stop, as a consumer of aiokafka does whose fetcher waits to retry."""

    def __init__(self) -> None:
        self.closed = False
        self._client = self

    async def stop(self) -> None:
        """Cancel its own task and fail with it."""
        await cancelled_by_client()

    async def close(self) -> None:
        """Close the connections."""
        self.closed = True


async def test_reader_that_cannot_stop_is_disconnected() -> None:
    """Closing it succeeds and leaves no connection open."""
    stopped, client = Reader(KafkaSettings(), {"bootstrap_servers": "127.0.0.1:1"}, "", "", True, False), Stubborn()
    await stopped.close()
    stopped._client = client
    await stopped.close()
    assert client.closed


def test_consumer_that_does_not_poll_stays_a_member(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is full does not poll for as long as its steps take; only missed heartbeats end its session.

    Waiting for the poll interval would take days, so the test reads the option. A worker that is full for longer than a
    session is in tests/kafka/members/test_long_steps.py.
    """
    made = Mock()
    monkeypatch.setattr(reader, "AIOKafkaConsumer", made)
    Reader(KafkaSettings("nowhere:1", "test"), {}, "worker-shop", "", True, False)
    given = made.call_args.kwargs
    assert given["max_poll_interval_ms"] >= 7 * DAY_MS
    assert given["session_timeout_ms"] <= 10_000


@pytest.mark.parametrize(
    ("error", "setting", "limit"),
    [
        (InvalidSessionTimeoutError, "STEPSTREAM_KAFKA_SESSION_S", "group.min.session.timeout.ms"),
        (InvalidTransactionTimeout, "STEPSTREAM_KAFKA_TRANSACTION_S", "transaction.max.timeout.ms"),
    ],
)
def test_refused_timeout_names_the_setting(error: type[KafkaError], setting: str, limit: str) -> None:
    """The error has the variable to change, and the setting of the broker that limits it."""
    with pytest.raises(LogError, match=f"{setting}.*{limit}"), translate_kafka_errors("joining"):
        raise error
