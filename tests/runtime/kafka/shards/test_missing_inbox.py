"""What a shard says if its own topics are missing while it creates one of commands."""

import pytest

from stepstream.contract.topics import INBOX, commands_topic
from stepstream.runtime.clocks import VirtualClock
from stepstream.runtime.kafka.client.answers import Extent
from stepstream.runtime.kafka.shards.shard_log import KafkaLog
from stepstream.runtime.ports import LogError, NewRecord
from tests.fakes.cluster import FakeCluster


async def test_shard_without_an_inbox_names_the_topic_and_the_command() -> None:
    """Both topics were deleted: the shard restarts with a sentence, and creates neither."""
    cluster, missing = FakeCluster(), Extent(0, 0)
    cluster.extents_of = {INBOX: missing, commands_topic("shop"): missing}
    log = KafkaLog(cluster, VirtualClock(0), 0, 1)
    with pytest.raises(LogError, match=r"inbox.*stepstream topics apply"):
        await log.send([NewRecord(commands_topic("shop"), 0, b"k", b"v")], [])
