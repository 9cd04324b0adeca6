"""The members of a group get the partitions that its leader decides, by what each member claims."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from aiokafka.coordinator.protocol import ConsumerProtocol

from stepstream.runtime.kafka.client.assignors import Assignor, Placed, new_assignor

TOPIC = "inbox"


class Member:
    """A member that gets as many of the first partitions as it claims."""

    def __init__(self, claim: bytes) -> None:
        self._claim = claim
        self.data = b""
        self.assignor = new_assignor()
        self.assignor.decide_by(self)

    def claim(self) -> bytes:
        """Return the claim."""
        return self._claim

    def place(self, claims: Mapping[str, bytes]) -> dict[str, Placed]:
        """Give each member its partitions."""
        return {name: Placed(list(range(int(claim))), b"for " + claim) for name, claim in claims.items()}

    def placed(self, data: bytes) -> None:
        """Note what came."""
        self.data = data


def cluster_of(partitions: set[int] | None) -> Any:
    """Return a cluster in which the topic has these partitions."""
    return SimpleNamespace(partitions_for_topic=lambda _: partitions, topics=lambda: {TOPIC})


def metadata_of(assignor: type[Assignor]) -> Any:
    """Return what the leader reads of a member."""
    return ConsumerProtocol.METADATA.decode(assignor.metadata([TOPIC]).encode())


def test_leader_decides_by_the_claims_of_all_members() -> None:
    """Each member gets its partitions, of those that exist, and data."""
    members = {"a": Member(b"3"), "b": Member(b"1")}
    metadata = {name: metadata_of(member.assignor) for name, member in members.items()}
    for existing, expected in (({0, 1}, {"a": [0, 1], "b": [0]}), (None, {"a": [], "b": []})):
        assigned = members["a"].assignor.assign(cluster_of(existing), metadata)
        for name, member in members.items():
            received = ConsumerProtocol.ASSIGNMENT.decode(assigned[name].encode())
            member.assignor.on_assignment(received)
            assert [partition.partition for partition in received.partitions()] == expected[name]
    assert [member.data for member in members.values()] == [b"for 3", b"for 1"]


def test_partitions_beyond_the_limit_are_not_assigned() -> None:
    """As those that an operator added to a topic of commands, which may be created again without them."""
    assignor = new_assignor()
    assignor.partitions_max = 2
    for existing, expected in (({0, 1, 2}, [0, 1]), ({0}, [0]), (None, [])):
        assigned = assignor.assign(cluster_of(existing), {"a": metadata_of(assignor)})
        assert [partition.partition for partition in assigned["a"].partitions()] == expected


def test_group_without_such_members_is_sticky() -> None:
    """Consumers keep their own partitions apart: aiokafka has them in the class. The name keeps the groups apart."""
    first, second = new_assignor(), new_assignor()
    members = {"a": metadata_of(first), "b": metadata_of(second)}
    assigned = first.assign(cluster_of({0, 1, 2, 3}), members)
    for name, assignor in (("a", first), ("b", second)):
        assignor.on_assignment(ConsumerProtocol.ASSIGNMENT.decode(assigned[name].encode()))
    assert first.member_assignment != second.member_assignment
    again = first.assign(cluster_of({0, 1, 2, 3}), {"a": metadata_of(first), "b": metadata_of(second)})
    assert {name: each.partitions() for name, each in again.items()} == {
        name: each.partitions() for name, each in assigned.items()
    }
    assert (first.name, Member(b"1").assignor.name) == ("sticky", "stepstream")
