"""What a client of Kafka makes of its own troubles: doubt, and no end of ours."""

import asyncio

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.errors import GroupLoadInProgressError
from aiokafka.protocol.commit import OffsetFetchResponse_v3

from stepstream.runtime.kafka.errors import translate_kafka_errors
from stepstream.runtime.kafka.reader import Reader
from stepstream.runtime.kafka.settings import KafkaSettings
from stepstream.runtime.ports import LogError


async def cancelled_by_a_client() -> None:
    """Wait for something that a client drops."""
    waited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waited.cancel()
    await waited


async def test_what_a_client_cancels_is_in_doubt() -> None:
    """Whoever waits for a client that gives up hears that the outcome is unknown."""
    with pytest.raises(LogError, match="writing: the client gave it up"), translate_kafka_errors("writing"):
        await cancelled_by_a_client()


async def test_who_is_cancelled_while_a_client_works_ends() -> None:
    """A cancellation of ours goes through."""

    async def write() -> None:
        with translate_kafka_errors("writing"):
            await asyncio.get_running_loop().create_future()

    writing = asyncio.ensure_future(write())
    await asyncio.sleep(0)
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing


class Stubborn:
    """A client of aiokafka that fails to stop as a consumer does whose fetcher waits to fetch again."""

    def __init__(self) -> None:
        self.closed = False
        self._client = self

    async def stop(self) -> None:
        """Cancel a part, and be struck by it."""
        await cancelled_by_a_client()

    async def close(self) -> None:
        """Go off the wire."""
        self.closed = True


async def test_a_reader_that_cannot_stop_is_closed() -> None:
    """Its end is that of nobody else, and no connection of it is left."""
    reader, client = Reader(KafkaSettings(), {"bootstrap_servers": "127.0.0.1:1"}, "", "", True, False), Stubborn()
    await reader.close()
    reader._client = client
    await reader.close()
    assert client.closed


class Unloaded:
    """A connection to a coordinator that has not loaded its groups, or leaves: error 14 for the whole answer."""

    async def send(self, _node: int, _request: object, **_options: object) -> OffsetFetchResponse_v3:
        """Answer as Kafka does, without a word of any partition."""
        return OffsetFetchResponse_v3(0, [], 14)


async def test_a_coordinator_that_cannot_tell_has_not_committed_nothing() -> None:
    """What is committed is not known then; taken for nothing, everything would be read and done once more."""
    coordinator = object.__new__(GroupCoordinator)
    coordinator._client, coordinator.group_id, coordinator.coordinator_id = Unloaded(), "shard-0", 1
    coordinator.coordinator_dead = lambda: None
    with pytest.raises(GroupLoadInProgressError):
        await coordinator._do_fetch_commit_offsets([TopicPartition("inbox", 0)])
