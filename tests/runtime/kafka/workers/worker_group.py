"""The group of an app's workers in a cluster in memory, with a worker's log that is a member of it."""

from collections.abc import Collection

from stepstream.contract.topics import commands_topic
from stepstream.runtime.kafka.workers.group_lease import GROUP_MEMBER, MemberOptions
from stepstream.runtime.kafka.workers.worker_log import KafkaWorkerLog
from stepstream.runtime.ports import LogRecord, RebalanceListener
from tests.fakes.cluster import FakeCluster

TOPIC = commands_topic("shop")
AT = (TOPIC, 0)
FIRST, END = 7, 10
# The lease is renewed, and offsets are committed, in each iteration of the event loop.
AT_ONCE = MemberOptions(commit_s=0.0, renew_sessions=0.0)


class WorkerGroup(FakeCluster):
    """A cluster with the commands 7, 8 and 9 in partition 0, of which the group has committed 7."""

    def __init__(self) -> None:
        super().__init__()
        self.add(LogRecord(*AT, offset, b"k", b"v", (), 0) for offset in range(FIRST, END))
        self.committed_offsets[AT] = FIRST

    async def open(
        self, listener: RebalanceListener | None = None, options: MemberOptions = GROUP_MEMBER
    ) -> KafkaWorkerLog:
        """Return the log of a worker that has joined the group."""
        log = KafkaWorkerLog(self, "shop", 1, options)
        await log.open(listener or Listener())
        return log


class Listener:
    """A worker without any run, which notes the rebalances: None when one begins, then what is kept and `lost`."""

    def __init__(self) -> None:
        self.moves: list[tuple[set[int], bool] | None] = []

    async def moving(self) -> None:
        """Note that partitions may go."""
        self.moves.append(None)

    async def moved(self, kept: Collection[int], *, lost: bool) -> None:
        """Note which partitions stay."""
        self.moves.append((set(kept), lost))
