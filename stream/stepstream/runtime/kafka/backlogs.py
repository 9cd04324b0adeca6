"""The backlogs of commands, read from the consumer groups of the workers, even while no worker runs."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from stepstream.contract.topics import commands_topic
from stepstream.runtime.kafka.backbone import KafkaBackbone
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.errors import translate_kafka_errors
from stepstream.runtime.kafka.topics.registrar import shown_client, worker_of
from stepstream.runtime.overview import RunningWorker
from stepstream.runtime.ports import Offsets

# An engine reads the backlogs of at most this many topics, the first by name.
TOPICS_MAX = 100


class Backlog(NamedTuple):
    """The backlog of one topic of commands: uncommitted offsets by partition, and the number of group members.

    An offset is a command or a transaction marker, so a lag is at least the number of commands.
    """

    lags: dict[int, int]
    members: int


def _group(name: str) -> str:
    return f"worker-{name}"


class Backlogs:
    """Reads the backlogs of workers, by their names (workers_name)."""

    def __init__(self, cluster: Cluster, backbone: KafkaBackbone) -> None:
        self._cluster = cluster
        self._backbone = backbone
        self._partition_counts: dict[str, int] = {}

    async def read(self, names: Sequence[str]) -> dict[str, Backlog]:
        """Return the backlog of each topic that exists; raise LogError if a broker does not answer."""
        try:
            return await self._read(sorted(names)[:TOPICS_MAX])
        except BaseException:
            # A topic may have been deleted, and a query for its end would wait.
            self._partition_counts = {}
            raise

    async def members(self, names: Sequence[str]) -> dict[str, list[RunningWorker]]:
        """Return the workers in each group, by name; raise LogError if a broker does not answer."""
        async with self._cluster.admin() as admin:
            return {name: await self._members(admin, name) for name in names}

    async def _read(self, names: Sequence[str]) -> dict[str, Backlog]:
        if any(commands_topic(name) not in self._partition_counts for name in names):
            self._partition_counts = await self._cluster.topics([commands_topic(name) for name in names])
        known = [name for name in names if commands_topic(name) in self._partition_counts]
        if not known:
            return {}
        committed, members = Offsets(), dict[str, int]()
        async with self._cluster.admin() as admin:
            for name in known:
                # The client ignores the error of a coordinator that has not loaded the offsets yet. One that knows the
                # members of the group has loaded them.
                members[name] = len(await self._members(admin, name))
                committed |= await self._committed(admin, name)
        waiting = await self._waiting(known, committed)
        return {
            name: Backlog({at: waiting[commands_topic(name), at] for at in self._range(name)}, members[name])
            for name in known
        }

    def _range(self, name: str) -> range:
        return range(self._partition_counts[commands_topic(name)])

    async def _members(self, admin: Any, name: str) -> list[RunningWorker]:
        members = await self._cluster.members_by(admin, _group(name))
        return [replace(worker_of(each.client), client=shown_client(each.client), host=each.host) for each in members]

    async def _committed(self, admin: Any, name: str) -> Offsets:
        plain = self._cluster.settings.plain
        with translate_kafka_errors("reading committed offsets"):
            found = await admin.list_consumer_group_offsets(self._cluster.settings.name(_group(name)))
        return {(plain(at.topic), at.partition): committed.offset for at, committed in found.items()}

    async def _waiting(self, names: Sequence[str], committed: Offsets) -> Offsets:
        """Return how many retained offsets are not committed, by partition."""
        partitions = [(commands_topic(name), at) for name in names for at in self._range(name)]
        ends = await self._backbone.ends(partitions)
        behind = [at for at in partitions if committed.get(at, 0) < ends[at]]
        beginnings = await self._backbone.beginnings(behind)
        return {at: max(ends[at] - max(committed.get(at, 0), beginnings.get(at, 0)), 0) for at in partitions}
