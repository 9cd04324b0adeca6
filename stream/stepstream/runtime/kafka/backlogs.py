"""What waits in the topics of commands, whether workers are up or not: the brokers know it of their groups."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from stepstream.contract.topics import commands_topic
from stepstream.runtime.kafka.backbone import KafkaBackbone
from stepstream.runtime.kafka.cluster import Cluster
from stepstream.runtime.kafka.errors import translate_kafka_errors
from stepstream.runtime.ports import LogError, Offsets

# An engine asks for so many topics of commands at most, the first by name.
TOPICS_MAX = 100


class Backlog(NamedTuple):
    """Of one topic of commands: by partition, the offsets that its group has not committed; how many are in the group.

    An offset is a command or the mark of a transaction's end, so there are at least as many as commands.
    """

    lags: dict[int, int]
    members: int


class Backlogs:
    """Asks for the backlogs of workers by their names (workers_name)."""

    def __init__(self, cluster: Cluster, backbone: KafkaBackbone) -> None:
        self._cluster = cluster
        self._backbone = backbone
        self._partitions: dict[str, int] = {}

    async def read(self, names: Sequence[str]) -> dict[str, Backlog]:
        """Return the backlog of each topic that is there; LogError when a broker does not tell."""
        try:
            return await self._read(sorted(names)[:TOPICS_MAX])
        except BaseException:
            # A topic may be gone, and to ask for its end is to wait.
            self._partitions = {}
            raise

    async def members(self, names: Sequence[str]) -> dict[str, int]:
        """Return how many workers of each name are in their group; LogError when a broker does not tell."""
        async with self._cluster.admin() as admin:
            with translate_kafka_errors("asking for groups"):
                return {name: await self._members(admin, name) for name in names}

    async def _read(self, names: Sequence[str]) -> dict[str, Backlog]:
        if any(commands_topic(name) not in self._partitions for name in names):
            self._partitions = await self._cluster.topics()
        known = [name for name in names if commands_topic(name) in self._partitions]
        if not known:
            return {}
        committed, members = Offsets(), dict[str, int]()
        async with self._cluster.admin() as admin:
            with translate_kafka_errors("asking for groups"):
                for name in known:
                    # Whoever knows a group's members has loaded its offsets; that it has not, the client overlooks.
                    members[name] = await self._members(admin, name)
                    committed |= await self._committed(admin, name)
        waiting = await self._waiting(known, committed)
        return {
            name: Backlog({at: waiting[commands_topic(name), at] for at in self._range(name)}, members[name])
            for name in known
        }

    def _range(self, name: str) -> range:
        return range(self._partitions[commands_topic(name)])

    async def _members(self, admin: Any, name: str) -> int:
        # The client misreads an answer about more than one.
        (answer,) = await admin.describe_consumer_groups([self._group(name)])
        ((code, _group, _state, _kind, _protocol, members, *_),) = answer.groups
        if code:
            raise LogError(f"group {self._group(name)} cannot be described (error {code} of Kafka)")
        return len(members)

    def _group(self, name: str) -> str:
        return self._cluster.settings.name(f"worker-{name}")

    async def _committed(self, admin: Any, name: str) -> Offsets:
        plain = self._cluster.settings.plain
        found = await admin.list_consumer_group_offsets(self._group(name))
        return {(plain(at.topic), at.partition): place.offset for at, place in found.items()}

    async def _waiting(self, names: Sequence[str], committed: Offsets) -> Offsets:
        """Return of each partition how many offsets are not committed and still there."""
        places = [(commands_topic(name), at) for name in names for at in self._range(name)]
        ends = await self._backbone.ends(places)
        behind = [at for at in places if committed.get(at, 0) < ends[at]]
        beginnings = await self._backbone.beginnings(behind)
        return {at: max(ends[at] - max(committed.get(at, 0), beginnings.get(at, 0)), 0) for at in places}
