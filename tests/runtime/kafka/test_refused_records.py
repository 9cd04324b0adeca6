"""A producer that the broker refuses is replaced: callers and sources go on with another."""

import asyncio
from collections.abc import Sequence

import pytest

from stepstream.contract.topics import EVENTS
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.kafka.backbone import KafkaBackbone
from stepstream.runtime.ports import LogError, NewRecord


class Producer:
    """A producer as aiokafka's: after one batch that was refused, all that follow are out of sequence."""

    def __init__(self) -> None:
        self.refused = self.closed = False

    async def send(self, records: Sequence[NewRecord], _timestamp: int) -> list[tuple[int, int]]:
        """Write, unless something was refused."""
        await asyncio.sleep(0)
        self.refused |= any(record.value == b"too large" for record in records)
        if self.refused:
            raise LogError("writing: OutOfOrderSequenceNumber")
        return [(0, 0)] * len(records)

    async def close(self) -> None:
        """Disconnect."""
        self.closed = True


class Cluster:
    """A cluster that makes producers."""

    def __init__(self) -> None:
        self.made: list[Producer] = []

    async def producer(self) -> Producer:
        """Return a new one."""
        self.made.append(Producer())
        return self.made[-1]


async def test_what_follows_a_refused_record_is_written() -> None:
    """One record that is refused fails for its caller; the next of all others is written, and no client is left."""
    cluster = Cluster()
    backbone = KafkaBackbone(cluster, VirtualClock(0), 1)  # type: ignore[arg-type]  # As far as it is used.
    good, bad = NewRecord(EVENTS, 0, b"k", b"v"), NewRecord(EVENTS, 0, b"k", b"too large")
    await backbone.append([good])
    with pytest.raises(LogError):
        await backbone.append([bad])
    assert await backbone.append([good]) == [(0, 0)]
    await backbone.close()
    assert [producer.closed for producer in cluster.made] == [True, True]
