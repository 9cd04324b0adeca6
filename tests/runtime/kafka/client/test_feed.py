"""Reading ahead is bounded by bytes as well as records: 500 results of 4 MiB would be 2 GiB."""

from stepstream.contract.limits import BATCH_BYTES_MAX, MIB
from stepstream.contract.topics import INBOX
from stepstream.runtime.kafka.client.feed import Feed
from stepstream.runtime.notification import Notification
from stepstream.runtime.ports import LogRecord
from tests.fakes.cluster import FakeCluster, FakeReader
from tests.fakes.waiting import iterate

RECORDS = 40


async def test_records_read_ahead_and_taken_are_bounded_by_bytes() -> None:
    """A larger record is taken alone. Otherwise batches stay within the bound, in order, without gaps."""
    cluster = FakeCluster()
    large, small = bytes(20 * MIB), bytes(4 * MIB)
    cluster.add(LogRecord(INBOX, 0, at, b"", small if at else large, (), 0) for at in range(RECORDS))
    cluster.records_per_read = 1
    reader = FakeReader(cluster)
    reader.assign([(INBOX, 0)])
    feed = Feed(Notification())
    feed.reader = reader
    taken: list[int] = []
    for _ in range(10):
        batch = feed.take(500)
        taken += [record.offset for record in batch]
        assert len(batch) <= 1 or sum(len(record.value) for record in batch) <= BATCH_BYTES_MAX
        await iterate(50)
        assert reader.positions[INBOX, 0] - len(taken) <= BATCH_BYTES_MAX // (4 * MIB) + 1
    assert taken == list(range(len(taken)))
    assert len(taken) > BATCH_BYTES_MAX // (4 * MIB)
    await feed.close()
