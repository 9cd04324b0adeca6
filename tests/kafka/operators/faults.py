"""The mistakes of an operator as values: each strikes a running cluster, and says what probes and logs must report.

A trial strikes with a fault, waits until `is_reported`, remedies it, and waits until all processes are ready. Each
call is bounded: it raises TimeoutError, or the error of the broker.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from stepstream.contract.topics import CHANGELOG, EVENTS, INBOX, TOPICS, commands_topic
from stepstream.runtime.kafka.client.cluster import Cluster
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.kafka.topics.layout import expected_topics
from tests.kafka.cluster.fleet import Fleet
from tests.kafka.cluster.topics import grow_topic, recreate_topic

BROKER_S_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Site:
    """The cluster that a fault hits: its processes, its number of shards and its app."""

    fleet: Fleet
    shards: int
    app: str

    @property
    def cluster(self) -> Cluster:
        """The topics of the fleet."""
        return Cluster(KafkaSettings(self.fleet.bootstrap, self.fleet.namespace))

    def do(self, code: Coroutine[Any, Any, Any]) -> Any:
        """Run code against the broker, for a bounded time."""

        async def bounded() -> Any:
            async with asyncio.timeout(BROKER_S_MAX):
                return await code

        return asyncio.run(bounded())

    def apply(self) -> None:
        """Create missing topics, by the command that logs and probes give."""
        self.fleet.command("topics", "apply", "--shards", str(self.shards), "--app", self.app)

    def logged(self, words: str, role: str) -> int:
        """Return how often the processes of a role have logged some words since they started."""
        members = self.fleet.engines if role == "engine" else self.fleet.workers
        return sum(member.said(words) for member in members)


@dataclass(frozen=True, slots=True)
class OperatorFault:
    """A mistake: how it strikes, and how it is remedied.

    `unready` is what /ready of the processes of `role` says, empty if they stay ready; `logged` is what one of them
    logs after the strike, and `recovered` what one logs after the remedy.
    """

    name: str
    role: str
    strike: Callable[[Site], None]
    remedy: Callable[[Site], None]
    unready: str
    logged: str
    recovered: str = ""

    def is_reported(self, site: Site, before: int = 0) -> bool:
        """Return whether the fault is in the log more often than `before`."""
        return site.logged(self.logged, self.role) > before


def delete(site: Site, topics: Sequence[str]) -> None:
    """Delete topics."""
    site.do(site.cluster.delete(topics))


def recreate(site: Site, topic: str) -> None:
    """Delete a topic and create it again at once, as the contract says."""
    site.do(recreate_topic(site.cluster, topic, expected_topics([site.app], site.shards)[topic]))


def add_partitions(site: Site, topic: str, count: int) -> None:
    """Give a topic more partitions, as `kafka-topics.sh --alter` does."""
    site.do(grow_topic(site.cluster, topic, count))


def _nothing(_site: Site) -> None:
    """Do nothing: the processes recover by themselves."""


def all_topics(site: Site) -> list[str]:
    """Return the names of all topics of the site."""
    return [*(topic.name for topic in TOPICS if "<" not in topic.name), commands_topic(site.app)]


def deleted(topic: str) -> OperatorFault:
    """Return the deletion of a topic that engines need; the remedy is the command of the log."""
    return OperatorFault(
        f"delete {topic}",
        "engine",
        lambda site: delete(site, [topic]),
        Site.apply,
        unready=f".{topic}' is missing; run `stepstream topics apply",
        logged=f".{topic}' is missing; run `stepstream topics apply",
        recovered="all topics exist again",
    )


INBOX_DELETED = deleted(INBOX)
ALL_DELETED = OperatorFault(
    "delete all topics",
    "engine",
    lambda site: delete(site, all_topics(site)),
    Site.apply,
    unready="is missing; run `stepstream topics apply",
    logged="is missing; run `stepstream topics apply",
    recovered="do not belong to their changelog",
)
CHANGELOG_RECREATED = OperatorFault(
    "recreate the changelog",
    "engine",
    lambda site: recreate(site, CHANGELOG),
    _nothing,
    unready="",
    logged="do not belong to their changelog",
)
EVENTS_RECREATED = OperatorFault(
    "recreate events",
    "engine",
    lambda site: recreate(site, EVENTS),
    _nothing,
    unready="",
    logged="from its beginning: the topic was deleted and created again",
)


def commands_recreated(app: str) -> OperatorFault:
    """Return the deletion and creation of an app's commands."""
    topic = commands_topic(app)
    return OperatorFault(
        f"recreate {topic}",
        "worker",
        lambda site: recreate(site, topic),
        _nothing,
        unready="",
        logged=f"topic {topic} was deleted and created again",
    )


def partitions_added(topic: str, more: int = 2) -> OperatorFault:
    """Return the addition of partitions to a topic."""
    return OperatorFault(
        f"add partitions to {topic}",
        "engine",
        lambda site: add_partitions(site, topic, site.shards + more),
        _nothing,
        unready="",
        logged=f".{topic}' has",
    )
