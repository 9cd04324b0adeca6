"""How the leader of a consumer group divides the partitions: so that few move, or by what the members claim."""

import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

from aiokafka.cluster import ClusterMetadata
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment, ConsumerProtocolMemberMetadata


class Placed(NamedTuple):
    """What a member of a group gets: partitions, and data for `Placing.placed`."""

    partitions: list[int]
    data: bytes


class Placing(Protocol):
    """How a member takes part in decisions about partitions; the leader decides from the claims of all members."""

    def claim(self) -> bytes:
        """Return what this member has."""

    def place(self, claims: Mapping[str, bytes]) -> Mapping[str, Placed]:
        """Return what each member gets; called if this member is the leader."""

    def placed(self, data: bytes) -> None:
        """Note what this member got; its partitions are assigned next."""


class _FirstPartitions(NamedTuple):
    """What the sticky assignor reads of the metadata of a cluster, with the first partitions of each topic only."""

    cluster: ClusterMetadata
    partitions_max: int

    def topics(self) -> set[str]:
        """Return the names of the topics."""
        found: set[str] = self.cluster.topics()
        return found

    def partitions_for_topic(self, topic: str) -> set[int] | None:
        """Return the partitions of a topic, None if it does not exist."""
        existing = self.cluster.partitions_for_topic(topic)
        return None if existing is None else {partition for partition in existing if partition < self.partitions_max}


class Assignor(StickyPartitionAssignor):  # type: ignore[misc]  # aiokafka's classes have no types.
    """Assigns partitions as `placing` decides; without it stickily, and only the first `partitions_max` of a topic.

    Each consumer has a separate class.
    """

    placing: Placing | None = None
    partitions_max = sys.maxsize

    @classmethod
    def decide_by(cls, placing: Placing) -> None:
        """Let `placing` decide; all members of the group must do so, which Kafka checks by the name."""
        cls.placing, cls.name = placing, "stepstream"

    @classmethod
    def metadata(cls, topics: Iterable[str]) -> Any:
        """Return what this member sends to the leader."""
        if cls.placing is None:
            return super().metadata(topics)
        return ConsumerProtocolMemberMetadata(0, list(topics), cls.placing.claim())

    @classmethod
    def assign(cls, cluster: ClusterMetadata, members: Mapping[str, Any]) -> Any:
        """Return the assignment of each member."""
        if cls.placing is None:
            return super().assign(_FirstPartitions(cluster, cls.partitions_max), members)
        (topic,) = {topic for metadata in members.values() for topic in metadata.subscription}
        existing = cluster.partitions_for_topic(topic) or set()
        placed = cls.placing.place({member: metadata.user_data for member, metadata in members.items()})
        return {
            member: ConsumerProtocolMemberAssignment(0, [(topic, sorted(existing & {*partitions}))], data)
            for member, (partitions, data) in placed.items()
        }

    @classmethod
    def on_assignment(cls, assignment: Any) -> None:
        """Note the assignment of this member."""
        if cls.placing is None:
            super().on_assignment(assignment)
        else:
            cls.placing.placed(assignment.user_data)


def new_assignor() -> type[Assignor]:
    """Return an assignor class for one consumer: aiokafka keeps the last assignment in the class, for all consumers."""
    return type("ConsumerAssignor", (Assignor,), {})
