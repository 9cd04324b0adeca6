"""A producer that the broker has refused is replaced, so that callers and sources continue."""

from collections.abc import Sequence

import pytest

from stepstream.contract.topics import EVENTS
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.kafka.backbone import KafkaBackbone
from stepstream.runtime.ports import LogError, NewRecord
from tests.fakes.cluster import FakeCluster, FakeProducer

GOOD, BAD = NewRecord(EVENTS, 0, b"k", b"v"), NewRecord(EVENTS, 0, b"k", b"too large")


class OutOfSequence(FakeProducer):
    """An idempotent producer: after one refused batch, the broker refuses all that follow as out of sequence."""

    refused = False

    async def send(self, records: Sequence[NewRecord], timestamp: int | None = None) -> list[tuple[int, int]]:
        """Append records, unless a batch was refused."""
        self.refused |= BAD in records
        if self.refused:
            raise LogError("writing: OutOfOrderSequenceNumber")
        return await super().send(records, timestamp)


class Refusing(FakeCluster):
    """A cluster with such producers."""

    async def producer(self, transactional_id: str = "") -> FakeProducer:
        """Return a new producer."""
        self.producers.append(OutOfSequence(self, transactional_id))
        return self.producers[-1]


async def test_record_after_a_refused_one_is_written() -> None:
    """Only the caller of the refused record gets an error, and no producer stays connected."""
    cluster = Refusing()
    backbone = KafkaBackbone(cluster, VirtualClock(0), 1)
    await backbone.append([GOOD])
    with pytest.raises(LogError):
        await backbone.append([BAD])
    assert await backbone.append([GOOD]) == [(0, 1)]
    await backbone.close()
    assert [producer.closed for producer in cluster.producers] == [True, True]
