"""Converts Kafka's answers: extents and configurations of topics, members of groups, refusals, records."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from stepstream.contract.errors import StepstreamError
from stepstream.runtime.kafka.client.parsing import unreadable_of
from stepstream.runtime.kafka.client.settings import KafkaSettings
from stepstream.runtime.ports import LogRecord

_NO_ERROR, _TOPIC_ALREADY_EXISTS = 0, 36

_REMEDIES = {
    "INVALID_REPLICATION_FACTOR": "use another --replicas, at most the number of brokers",
    "POLICY_VIOLATION": "`stepstream topics render` prints the topics, for the administrators of the cluster",
    "TOPIC_AUTHORIZATION_FAILED": "the user needs the permission Create",
    "CLUSTER_AUTHORIZATION_FAILED": "the user needs the permission Create on topics or the cluster",
    "INVALID_TOPIC_EXCEPTION": "choose another --namespace, or another name for the app",
    "REQUEST_TIMED_OUT": "run it again; topics that exist are left unchanged",
}


class TopicsRefused(StepstreamError):
    """Kafka refused to create topics; the message has its reasons, and what to do.

    `refused` has the name of the error by topic, and Kafka's message if there is one.
    """

    code = "topics-refused"

    def __init__(self, refused: Mapping[str, tuple[str | None, ...]]) -> None:
        by_reason: dict[tuple[str | None, ...], list[str]] = {}
        for topic, reason in refused.items():
            by_reason.setdefault(reason, []).append(topic)
        parts = []
        for (name, *words), topics in by_reason.items():
            reason_text = ": ".join(filter(None, [name, *words])).rstrip(".")
            remedy = _REMEDIES.get(name or "", "fix that and run it again; topics that exist are left unchanged")
            parts.append(f"Kafka refused to create {', '.join(map(repr, topics))}: {reason_text}; {remedy}")
        super().__init__("\n".join(parts))
        self.refused = refused


class Extent(NamedTuple):
    """The size of a topic; `replicas` is the smallest number of replicas of any partition.

    `id` differs after a topic was deleted and created again; it is empty if the brokers have no ids (before Kafka 2.8).
    """

    partitions: int
    replicas: int
    id: str = ""


class CreationWatch:
    """Notices by its id that a topic was deleted and created again."""

    def __init__(self, topic: str) -> None:
        self._topic = topic
        self._id = ""

    def created_again(self, topics: Mapping[str, Extent]) -> bool:
        """Return whether the topic is another one than at the last call; a topic without an id is not compared."""
        now = topics[self._topic].id if self._topic in topics else ""
        before, self._id = self._id, now or self._id
        return bool(now) and before not in ("", now)


def extents_in(described: Iterable[Mapping[str, Any]], settings: KafkaSettings) -> dict[str, Extent]:
    """Return the extents of the topics of the namespace, by their names without it."""
    prefix = settings.name("")
    return {
        settings.plain(topic["topic"]): Extent(
            len(topic["partitions"]),
            min((len(each["replicas"]) for each in topic["partitions"]), default=0),
            topic.get("topic_id", ""),
        )
        for topic in described
        # A topic that does not exist, or that the user may not see, is described by an error alone.
        if topic["topic"].startswith(prefix) and topic["partitions"] and not topic["is_internal"]
    }


def refused_in(errors: Iterable[Any], name_of: Callable[[int], str]) -> dict[str, tuple[str | None, ...]]:
    """Return the name and message of the error by topic, for topics that neither exist nor were created."""
    return {
        topic: (name_of(code), *words)
        for topic, code, *words in errors
        if code not in (_NO_ERROR, _TOPIC_ALREADY_EXISTS)
    }


def configs_in(answers: Iterable[Any]) -> dict[str, dict[str, str]]:
    """Return the configuration of each topic for which it may be read."""
    resources = [resource for answer in answers for resource in answer.resources]
    return {name: {key: value for key, value, *_ in entries} for _, _, _, name, entries in resources}


class Member(NamedTuple):
    """A member of a consumer group: its client id, and the address of its host."""

    client: str
    host: str


def members_in(answers: Iterable[Any]) -> list[Member]:
    """Return the members of all groups."""
    groups = [described for answer in answers for described in answer.groups]
    members = [member for *_, members in (described[:6] for described in groups) for member in members]
    # Brokers write an address with a slash before it.
    return [Member(client, host.removeprefix("/")) for _, client, host, *_ in members]


def _nulls_of(record: Any) -> tuple[str, ...]:
    return tuple(name for name in ("key", "value") if getattr(record, name) is None)


def records_in(found: Mapping[Any, Iterable[Any]], settings: KafkaSettings) -> list[LogRecord]:
    """Return the records that a consumer has fetched, with topic names without the namespace."""
    return [
        LogRecord(
            settings.plain(record.topic),
            record.partition,
            record.offset,
            record.key or b"",
            record.value or b"",
            () if (unreadable := unreadable_of(record.headers)) else tuple(record.headers),
            record.timestamp,
            () if record.key is not None and record.value is not None else _nulls_of(record),
            unreadable,
        )
        for records in found.values()
        for record in records
    ]
