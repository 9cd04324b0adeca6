"""Reading ahead is bounded by bytes as by records: 500 results of 4 MiB are 2 GiB, and a batch costs more."""

import asyncio

from stepstream.contract.limits import BATCH_BYTES_MAX, MIB
from stepstream.runtime.kafka.feed import Feed
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import LogRecord


class Reader:
    """A reader of records of 4 MiB each, one a read, without end, and one of 20 MiB first."""

    def __init__(self) -> None:
        self.given = 0

    async def read(self, _limit: int, _wait_ms: int) -> list[LogRecord]:
        """Return the next record."""
        await asyncio.sleep(0)
        self.given += 1
        value = bytes(4 * MIB if self.given > 1 else 20 * MIB)
        return [LogRecord("inbox", 0, self.given, b"", value, (), 0)]

    async def close(self) -> None:
        """Do nothing."""


async def test_what_is_read_ahead_and_what_is_taken_is_bounded_by_bytes() -> None:
    """A record that is larger is taken by itself; of others no more than the bound, in order, and none left out."""
    feed, reader = Feed(Notification()), Reader()
    feed.reader = reader  # type: ignore[assignment]  # As far as it is used.
    taken: list[int] = []
    for _ in range(10):
        batch = feed.take(500)
        taken += [record.offset for record in batch]
        assert len(batch) <= 1 or sum(len(record.value) for record in batch) <= BATCH_BYTES_MAX
        for _ in range(50):
            await asyncio.sleep(0)
        assert reader.given - len(taken) <= BATCH_BYTES_MAX // (4 * MIB) + 1
    assert taken == list(range(1, len(taken) + 1))
    assert len(taken) > BATCH_BYTES_MAX // (4 * MIB)
    await feed.close()
